package cir.client;

import cir.common.v1.GeoPoint;
import cir.common.v1.ListValue;
import cir.common.v1.Payload;
import cir.common.v1.Value;
import com.google.protobuf.NullValue;
import com.google.protobuf.Timestamp;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Payloads from maps and back. */
public final class Payloads {
  private Payloads() {}

  /** A payload of fields, whose values are as {@link #value} takes them. */
  public static Payload payload(Map<String, ?> fields) {
    Payload.Builder payload = Payload.newBuilder();
    fields.forEach((name, value) -> payload.putFields(name, value(value)));
    return payload.build();
  }

  /** The fields of a payload: String, Boolean, Long, Double, Instant, GeoPoint, List or null. */
  public static Map<String, Object> fields(Payload payload) {
    Map<String, Object> fields = new LinkedHashMap<>();
    payload.getFieldsMap().forEach((name, value) -> fields.put(name, plain(value)));
    return fields;
  }

  /**
   * A value of a String, Boolean, Integer, Long, Float, Double, Instant, GeoPoint or null, or of a list of one type.
   * NaN and infinity are refused by the service.
   */
  public static Value value(Object of) {
    Value.Builder value = Value.newBuilder();
    if (of == null) {
      return value.setNullValue(NullValue.NULL_VALUE).build();
    } else if (of instanceof String text) {
      return value.setStringValue(text).build();
    } else if (of instanceof Boolean truth) {
      return value.setBoolValue(truth).build();
    } else if (of instanceof Integer || of instanceof Long) {
      return value.setIntegerValue(((Number) of).longValue()).build();
    } else if (of instanceof Float || of instanceof Double) {
      return value.setFloatValue(((Number) of).doubleValue()).build();
    } else if (of instanceof Instant moment) {
      var stamp = Timestamp.newBuilder().setSeconds(moment.getEpochSecond()).setNanos(moment.getNano());
      return value.setDatetimeValue(stamp).build();
    } else if (of instanceof GeoPoint place) {
      return value.setGeoValue(place).build();
    } else if (of instanceof List<?> several) {
      return value.setListValue(ListValue.newBuilder().addAllValues(several.stream().map(Payloads::value).toList())).build();
    }
    throw new IllegalArgumentException("no payload value can be made of " + of.getClass().getName());
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
