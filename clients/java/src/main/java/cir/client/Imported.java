package cir.client;

import cir.common.v1.ItemError;
import java.util.List;

/**
 * How far an import is.
 *
 * @param done items that are written or rejected
 * @param errors one for each rejected item, by its place in the import; fewer where an import was resumed and the
 *     service remembers no more
 */
public record Imported(long done, long written, long rejected, List<ItemError> errors) {}
