package cir.client;

import cir.common.v1.ErrorReason;
import cir.common.v1.ItemError;
import cir.common.v1.Value;
import cir.search.v1.CatalogServiceGrpc;
import cir.search.v1.ImportItemsRequest;
import cir.search.v1.ImportItemsResponse;
import cir.search.v1.Item;
import cir.search.v1.ItemWrite;
import io.grpc.Channel;
import io.grpc.Context;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.StreamObserver;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.Iterator;
import java.util.LinkedList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

/** An import over as many streams as it takes. */
final class Import {
  /** Messages that are sent before the first of them is answered. */
  private static final int WINDOW = 8;
  /** Bytes of a message, unless a single item has more. */
  private static final int MAX_BATCH_BYTES = 4 << 20;
  /**
   * The same besides images and features. A service takes 100,000 fields and elements in a message, each of which has
   * two bytes or more.
   */
  private static final int MAX_BATCH_FACTS = 200_000;
  /** What no item has that a service takes: a payload has at most 1 MiB as JSON and 10,000 fields and elements. */
  private static final int MAX_FACTS = 2 << 20;
  private static final int MAX_VALUES = 10_000;
  private static final int MAX_ITEM_ID_BYTES = 2048;
  private static final Duration FIRST_WAIT = Duration.ofMillis(200);
  private static final Duration LONGEST_WAIT = Duration.ofSeconds(5);

  private final Channel channel;
  private final String version;
  private final Iterator<ItemWrite> items;
  private final ImportOptions options;
  private final List<ItemError> errors = new ArrayList<>();
  private final List<ImportItemsRequest> unanswered = new LinkedList<>(); // kept to be sent again
  private final Map<Integer, ItemError> ownErrors = new HashMap<>(); // of items that were not sent, by their place
  private long taken;
  private ItemWrite left; // did not fit into the message before
  private Imported progress = new Imported(0, 0, 0, List.of());

  Import(Channel channel, String version, Iterator<ItemWrite> items, ImportOptions options) {
    this.channel = channel;
    this.version = version;
    this.items = items;
    this.options = options;
  }

  Imported run() throws InterruptedException {
    long lastDone = System.nanoTime();
    Duration wait = FIRST_WAIT;
    while (true) {
      long before = progress.done();
      try {
        stream();
        return progress;
      } catch (StatusRuntimeException broken) {
        CirException failed = CirException.of(broken);
        if (progress.done() > before) {
          lastDone = System.nanoTime();
          wait = FIRST_WAIT;
        }
        Duration pause = Collections.max(List.of(wait, failed.retryAfter()));
        Duration since = Duration.ofNanos(System.nanoTime() - lastDone);
        if (!isResumable(failed) || Context.current().isCancelled() || since.plus(pause).compareTo(options.patience()) > 0) {
          throw failed;
        }
        Thread.sleep(pause.toMillis());
        wait = Collections.min(List.of(wait.multipliedBy(2), LONGEST_WAIT));
      }
    }
  }

  private static boolean isResumable(CirException failed) {
    return switch (failed.code()) {
      case UNAVAILABLE, ABORTED, DEADLINE_EXCEEDED, CANCELLED -> true;
      case RESOURCE_EXHAUSTED -> failed.is(ErrorReason.OVERLOADED) || failed.is(ErrorReason.RATE_LIMITED);
      case UNKNOWN -> failed.reason().isEmpty(); // what gRPC makes of some breaks
      default -> false;
    };
  }

  /** Sends items over one stream until all are done. */
  private void stream() throws InterruptedException {
    Answers answers = new Answers();
    var requests = (ClientCallStreamObserver<ImportItemsRequest>) CatalogServiceGrpc.newStub(channel).importItems(answers);
    try {
      requests.onNext(ImportItemsRequest.newBuilder()
          .setParent(version)
          .setToken(options.token())
          .setFirstIndex(progress.done())
          .setKnownIndex(progress.done())
          .build());
      ImportItemsResponse first = answers.next();
      if (first == null) {
        throw new IllegalStateException("the stream ended without an answer");
      }
      skip(first);
      take(first);
      for (int sent = 0; ; ) {
        while (sent < WINDOW && (sent < unanswered.size() || batch())) {
          requests.onNext(unanswered.get(sent++));
        }
        if (sent == 0) {
          requests.onCompleted();
        }
        ImportItemsResponse answer = answers.next();
        if (answer == null) {
          return;
        }
        int before = unanswered.size();
        take(answer);
        sent -= before - unanswered.size();
      }
    } finally {
      requests.cancel("the import has ended", null);
    }
  }

  /** Takes the items of the next message; false when there are none. */
  private boolean batch() {
    ImportItemsRequest.Builder message = ImportItemsRequest.newBuilder().setFirstIndex(left == null ? taken : taken - 1);
    int size = 0;
    int facts = 0;
    while (message.getItemsCount() < options.batchItems() && (left != null || items.hasNext())) {
      ItemWrite item = left;
      if (item == null) {
        item = sendable(items.next());
        taken++;
      }
      left = null;
      size += item.getSerializedSize();
      facts += facts(item);
      if (message.getItemsCount() > 0 && (size > MAX_BATCH_BYTES || facts > MAX_BATCH_FACTS)) {
        left = item;
        break;
      }
      message.addItems(item);
    }
    return message.getItemsCount() > 0 && unanswered.add(message.build());
  }

  /** The item; of one that cannot be sent the id alone, which the service refuses at its place. */
  private ItemWrite sendable(ItemWrite item) {
    String field = Unicode.problem(item);
    String problem = field.isEmpty() ? sizeProblem(item) : field + Unicode.PROBLEM;
    if (problem.isEmpty()) {
      return item;
    }
    String id = item.getItem().getId();
    ownErrors.put((int) taken, ItemError.newBuilder()
        .setIndex((int) taken)
        .setItemId(id)
        .setCode(Status.Code.INVALID_ARGUMENT.value())
        .setReason(field.isEmpty() ? ErrorReason.OUT_OF_RANGE : ErrorReason.FIELD_INVALID)
        .setMessage(problem)
        .build());
    return ItemWrite.newBuilder().setItem(Item.newBuilder().setId(sentId(id))).build();
  }

  /** An id as it is sent where it may be none: Unicode, and no longer than what is answered of it. */
  private static String sentId(String id) {
    return Unicode.repaired(id.substring(0, Math.min(id.length(), 2 * MAX_ITEM_ID_BYTES)));
  }

  /** Bytes of an item besides image and features. */
  private static int facts(ItemWrite item) {
    return item.getSerializedSize() - item.getContent().size() - item.getItem().getFeatures().getData().size();
  }

  /** What keeps an item from being sent, or an empty text. */
  private static String sizeProblem(ItemWrite item) {
    int facts = facts(item);
    // A size beyond 2 GiB is negative.
    if (item.getSerializedSize() < 0 || item.getSerializedSize() + 64 > CirClient.MAX_MESSAGE_BYTES) {
      return "the item has %d bytes, a message at most %d; send a smaller image".formatted(
          Integer.toUnsignedLong(item.getSerializedSize()), CirClient.MAX_MESSAGE_BYTES);
    } else if (facts > MAX_FACTS) {
      return "the item has %d bytes besides image and features; a payload has at most 1 MiB as JSON".formatted(facts);
    }
    // Two bytes or more are a value, so a smaller item has no more of them than are taken.
    Collection<Value> fields = item.getItem().getPayload().getFieldsMap().values();
    long values = facts > MAX_BATCH_FACTS ? count(fields) : 0;
    return values > MAX_VALUES
        ? "the payload has %d fields and elements of lists, at most %d are allowed".formatted(values, MAX_VALUES)
        : "";
  }

  private static long count(Collection<Value> values) {
    return values.stream().mapToLong(value -> 1 + count(value.getListValue().getValuesList())).sum();
  }

  /** Notes what an answer says is done. */
  private void take(ImportItemsResponse answer) {
    unanswered.removeIf(message -> message.getFirstIndex() + message.getItemsCount() <= answer.getNextIndex());
    for (ItemError error : answer.getErrorsList()) {
      ItemError own = ownErrors.remove(error.getIndex());
      errors.add(own == null ? error : own);
    }
    progress = new Imported(
        answer.getNextIndex(), answer.getWritten(), answer.getRejected(), Collections.unmodifiableList(errors));
    options.onProgress().accept(progress);
  }

  /** Passes over items that an earlier program with this token has sent. */
  private void skip(ImportItemsResponse answer) {
    String advice = "; give each import a token of its own";
    String id = null;
    while (taken < answer.getNextIndex()) {
      if (!items.hasNext()) {
        throw new IllegalArgumentException("%d items are done by token \"%s\", but there are %d%s".formatted(
            answer.getNextIndex(), options.token(), taken, advice));
      }
      id = sentId(items.next().getItem().getId());
      taken++;
    }
    boolean isKnown = id != null && id.getBytes(StandardCharsets.UTF_8).length <= MAX_ITEM_ID_BYTES;
    if (isKnown && !id.equals(answer.getLastItemId())) {
      throw new IllegalArgumentException("item %d is \"%s\", but the import with token \"%s\" has \"%s\" there%s".formatted(
          answer.getNextIndex() - 1, id, options.token(), answer.getLastItemId(), advice));
    }
  }

  /** The answers of a stream, to be waited for. */
  private static final class Answers implements StreamObserver<ImportItemsResponse> {
    private static final Object END = new Object();
    private final BlockingQueue<Object> queue = new LinkedBlockingQueue<>();

    /** The next answer; null at the end. */
    ImportItemsResponse next() throws InterruptedException {
      Object next = queue.take();
      if (next instanceof StatusRuntimeException failed) {
        throw failed;
      }
      return next == END ? null : (ImportItemsResponse) next;
    }

    @Override
    public void onNext(ImportItemsResponse answer) {
      queue.add(answer);
    }

    @Override
    public void onError(Throwable failed) {
      queue.add(failed);
    }

    @Override
    public void onCompleted() {
      queue.add(END);
    }
  }
}
