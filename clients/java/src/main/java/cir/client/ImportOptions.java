package cir.client;

import java.time.Duration;
import java.util.UUID;
import java.util.function.Consumer;

/**
 * Changes how an import sends.
 *
 * @param token names the import, so that a program that is started again goes on where it was: it gives the same token
 *     and the same items from the first on
 * @param batchItems items in a message, 1 or more; fewer where they are large
 * @param patience time for which streams that break, or are put off, are opened again after the last item that got done
 * @param onProgress called with each answer
 */
public record ImportOptions(String token, int batchItems, Duration patience, Consumer<Imported> onProgress) {
  public ImportOptions {
    if (batchItems < 1 || patience.isNegative()) {
      throw new IllegalArgumentException(
          "batchItems is %d and patience %s; expected 1 or more, and no negative time".formatted(batchItems, patience));
    }
  }

  /** A token of this import's own, 64 items in a message, a minute. */
  public ImportOptions() {
    this(UUID.randomUUID().toString());
  }

  /** The same with a token that names the import. */
  public ImportOptions(String token) {
    this(token, 64, Duration.ofMinutes(1), progress -> {});
  }

  public ImportOptions withBatchItems(int batchItems) {
    return new ImportOptions(token, batchItems, patience, onProgress);
  }

  public ImportOptions withPatience(Duration patience) {
    return new ImportOptions(token, batchItems, patience, onProgress);
  }

  public ImportOptions withProgress(Consumer<Imported> onProgress) {
    return new ImportOptions(token, batchItems, patience, onProgress);
  }
}
