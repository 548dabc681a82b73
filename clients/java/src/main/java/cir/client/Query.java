package cir.client;

import cir.search.v1.Condition;
import cir.search.v1.Exists;
import cir.search.v1.Filter;
import cir.search.v1.MatchAny;
import cir.search.v1.MatchText;
import cir.search.v1.Range;
import cir.search.v1.Reference;
import cir.search.v1.Turn;
import com.google.protobuf.ByteString;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.LocalDate;
import java.util.Arrays;
import java.util.List;

/** Short forms for references, turns and filters; import them statically. Values are as {@link Payloads#value} takes them. */
public final class Query {
  private Query() {}

  /** Resource name of a catalog, "catalogs/shop". */
  public static String catalogName(String catalog) {
    return "catalogs/" + catalog;
  }

  /** An encoded image (JPEG, PNG, WebP, ...). */
  public static Reference image(byte[] encoded) {
    return Reference.newBuilder().setImage(ByteString.copyFrom(encoded)).build();
  }

  /** An image file of this machine; what travels are its bytes. */
  public static Reference image(Path file) throws IOException {
    return image(Files.readAllBytes(file));
  }

  /** An item of the catalog, whose features are there already. */
  public static Reference item(String id) {
    return Reference.newBuilder().setItemId(id).build();
  }

  /** A step of the dialogue: what is looked at, and the change wanted (or ""). */
  public static Turn turn(Reference reference, String text) {
    return Turn.newBuilder().setReference(reference).setText(text).build();
  }

  /** A change of what the turns before have composed; in a first turn the text to search by. */
  public static Turn turn(String text) {
    return Turn.newBuilder().setText(text).build();
  }

  /** Items for which every condition holds. */
  public static Filter all(Condition... conditions) {
    return Filter.newBuilder().addAllMust(List.of(conditions)).build();
  }

  /** At least one of the conditions holds. There must be one: of none, which an empty selection gives, none can hold. */
  public static Condition or(Condition... conditions) {
    if (conditions.length == 0) {
      throw new IllegalArgumentException("or takes one condition or more; leave it out, or do not search, where there are none");
    }
    return nested(Filter.newBuilder().addAllShould(List.of(conditions)));
  }

  /** None of the conditions holds. */
  public static Condition not(Condition... conditions) {
    return nested(Filter.newBuilder().addAllMustNot(List.of(conditions)));
  }

  /** The field has one of the values; of a field of moments a LocalDate is the whole day in UTC. */
  public static Condition equal(String field, Object... values) {
    var wanted = Arrays.stream(values)
        .map(value -> Payloads.value("equal", field, value instanceof LocalDate day ? day.toString() : value))
        .toList();
    return Condition.newBuilder().setMatchAny(MatchAny.newBuilder().setField(field).addAllValues(wanted)).build();
  }

  /** The field is the value or above. */
  public static Condition atLeast(String field, Object value) {
    return within(Range.newBuilder().setField(field).setGte(Payloads.value("atLeast", field, value)));
  }

  /** The field is the value or below. */
  public static Condition atMost(String field, Object value) {
    return within(Range.newBuilder().setField(field).setLte(Payloads.value("atMost", field, value)));
  }

  /** The field is above the value. */
  public static Condition above(String field, Object value) {
    return within(Range.newBuilder().setField(field).setGt(Payloads.value("above", field, value)));
  }

  /** The field is below the value. */
  public static Condition below(String field, Object value) {
    return within(Range.newBuilder().setField(field).setLt(Payloads.value("below", field, value)));
  }

  /** The field has a value. */
  public static Condition has(String field) {
    return Condition.newBuilder().setExists(Exists.newBuilder().setField(field)).build();
  }

  /** The text field has every word of the text. */
  public static Condition words(String field, String text) {
    return Condition.newBuilder().setMatchText(MatchText.newBuilder().setField(field).setText(text)).build();
  }

  private static Condition within(Range.Builder bounds) {
    return Condition.newBuilder().setRange(bounds).build();
  }

  private static Condition nested(Filter.Builder filter) {
    return Condition.newBuilder().setFilter(filter).build();
  }
}
