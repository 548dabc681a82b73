package cir.client;

import cir.common.v1.GeoPoint;
import cir.common.v1.ListValue;
import cir.common.v1.Payload;
import cir.common.v1.Value;
import com.google.protobuf.NullValue;
import com.google.protobuf.Timestamp;
import java.lang.reflect.Array;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.OffsetDateTime;
import java.time.ZoneOffset;
import java.time.ZonedDateTime;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.IntStream;

/** Payloads from maps and back. */
public final class Payloads {
  private Payloads() {}

  private static final String TAKEN = "String, Boolean, Byte, Short, Integer, Long, BigInteger, Float, Double, BigDecimal, "
      + "Instant, OffsetDateTime, ZonedDateTime, LocalDateTime, LocalDate, Date, GeoPoint, null, and collections and arrays "
      + "of one of these";

  /**
   * A payload of fields, whose values are as {@link #value} takes them.
   *
   * @throws IllegalArgumentException naming the field whose value is of another type
   */
  public static Payload payload(Map<String, ?> fields) {
    Payload.Builder payload = Payload.newBuilder();
    fields.forEach((name, value) -> payload.putFields(name, value("field", name, value)));
    return payload.build();
  }

  /** The value of a field, which a refusal names, behind where it stands. */
  static Value value(String place, String field, Object of) {
    try {
      return value(of);
    } catch (IllegalArgumentException refused) {
      throw new IllegalArgumentException("%s \"%s\": %s".formatted(place, field, refused.getMessage()), refused);
    }
  }

  /** The fields of a payload: String, Boolean, Long, Double, Instant, GeoPoint, List or null. */
  public static Map<String, Object> fields(Payload payload) {
    Map<String, Object> fields = new LinkedHashMap<>();
    payload.getFieldsMap().forEach((name, value) -> fields.put(name, plain(value)));
    return fields;
  }

  /**
   * A value of a String, a Boolean, a number (whole ones as integers; Float, Double and BigDecimal as floats of 64 bits),
   * a moment (Instant, OffsetDateTime, ZonedDateTime, Date; a LocalDateTime is in UTC, a LocalDate midnight in UTC), a
   * GeoPoint or null; or of a collection or an array of one of these but null, where whole numbers among floats are
   * floats. NaN and infinity are refused by the service.
   *
   * @throws IllegalArgumentException for other types
   */
  public static Value value(Object of) {
    Value.Builder value = Value.newBuilder();
    if (of == null) {
      return value.setNullValue(NullValue.NULL_VALUE).build();
    } else if (of instanceof String text) {
      return value.setStringValue(text).build();
    } else if (of instanceof Boolean truth) {
      return value.setBoolValue(truth).build();
    } else if (of instanceof Long || of instanceof Integer || of instanceof Short || of instanceof Byte) {
      return value.setIntegerValue(((Number) of).longValue()).build();
    } else if (of instanceof BigInteger whole) {
      if (whole.bitLength() > 63) {
        throw new IllegalArgumentException(whole + " does not fit 64 bits");
      }
      return value.setIntegerValue(whole.longValue()).build();
    } else if (of instanceof Float || of instanceof Double || of instanceof BigDecimal) {
      return value.setFloatValue(((Number) of).doubleValue()).build();
    } else if (of instanceof GeoPoint place) {
      return value.setGeoValue(place).build();
    } else if (of instanceof Collection<?> several) {
      return list(several);
    } else if (of.getClass().isArray() && !(of instanceof byte[])) {
      return list(IntStream.range(0, Array.getLength(of)).mapToObj(place -> Array.get(of, place)).toList());
    }
    Instant moment = moment(of);
    if (moment == null) {
      throw new IllegalArgumentException(
          "no payload value can be made of %s; taken are %s".formatted(of.getClass().getTypeName(), TAKEN));
    }
    var stamp = Timestamp.newBuilder().setSeconds(moment.getEpochSecond()).setNanos(moment.getNano());
    return value.setDatetimeValue(stamp).build();
  }

  /** The moment that a value is; null where it is none. */
  private static Instant moment(Object of) {
    if (of instanceof Instant moment) {
      return moment;
    } else if (of instanceof OffsetDateTime moment) {
      return moment.toInstant();
    } else if (of instanceof ZonedDateTime moment) {
      return moment.toInstant();
    } else if (of instanceof LocalDateTime moment) {
      return moment.toInstant(ZoneOffset.UTC);
    } else if (of instanceof LocalDate day) {
      return day.atStartOfDay(ZoneOffset.UTC).toInstant();
    } else if (of instanceof Date moment) {
      return Instant.ofEpochMilli(moment.getTime()); // those of SQL have no Instant
    }
    return null;
  }

  /** A list of one type; whole numbers among floats are floats, where that is exact. */
  private static Value list(Collection<?> several) {
    List<Object> elements = new ArrayList<>(several);
    List<Value> values = new ArrayList<>(elements.stream().map(Payloads::value).toList());
    boolean isOfFloats = values.stream().anyMatch(Value::hasFloatValue);
    for (int place = 0; place < values.size(); place++) {
      Value value = values.get(place);
      if (isOfFloats && value.hasIntegerValue() && (long) (double) value.getIntegerValue() == value.getIntegerValue()) {
        values.set(place, Value.newBuilder().setFloatValue(value.getIntegerValue()).build());
      }
      if (value.hasListValue() || value.hasNullValue()) {
        throw new IllegalArgumentException("element %d: a list holds neither lists nor null".formatted(place));
      }
      if (values.get(place).getKindCase() != values.get(0).getKindCase()) {
        throw new IllegalArgumentException("element %d: a list is of one type, but this is %s and the first %s".formatted(
            place, elements.get(place).getClass().getTypeName(), elements.get(0).getClass().getTypeName()));
      }
    }
    return Value.newBuilder().setListValue(ListValue.newBuilder().addAllValues(values)).build();
  }

  private static Object plain(Value value) {
    return switch (value.getKindCase()) {
      case STRING_VALUE -> value.getStringValue();
      case BOOL_VALUE -> value.getBoolValue();
      case INTEGER_VALUE -> value.getIntegerValue();
      case FLOAT_VALUE -> value.getFloatValue();
      case DATETIME_VALUE ->
          Instant.ofEpochSecond(value.getDatetimeValue().getSeconds(), value.getDatetimeValue().getNanos());
      case GEO_VALUE -> value.getGeoValue();
      case LIST_VALUE -> value.getListValue().getValuesList().stream().map(Payloads::plain).toList();
      case NULL_VALUE, KIND_NOT_SET -> null;
    };
  }
}
