package cir.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import cir.common.v1.GeoPoint;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.time.Instant;
import java.time.LocalDate;
import java.time.ZoneId;
import java.time.ZoneOffset;
import java.util.Arrays;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class PayloadsTest {
  @Test
  void fieldsComeBackAsTheyWent() {
    Map<String, Object> fields = new LinkedHashMap<>();
    fields.put("kind", "dress");
    fields.put("sold", false);
    fields.put("stock", 9_007_199_254_740_993L);
    fields.put("price", 49.95);
    fields.put("since", Instant.parse("2024-02-29T12:00:00.000001Z"));
    fields.put("sizes", List.of("s", "m"));
    fields.put("shop", GeoPoint.newBuilder().setLatitude(43.77).setLongitude(11.25).build());
    fields.put("brand", null);
    assertEquals(fields, Payloads.fields(Payloads.payload(fields)));
  }

  private static Object there(Object value) {
    return Payloads.fields(Payloads.payload(Map.of("a", value))).get("a");
  }

  @Test
  void whatJavaHasForNumbersMomentsAndListsIsTaken() {
    assertEquals(49.95, there(new BigDecimal("49.95")));
    assertEquals(40.0, there(new BigDecimal("40")));
    assertEquals(7L, there(BigInteger.valueOf(7)));
    assertEquals(List.of(7L, 7L), List.of(there((short) 7), there((byte) 7)));
    Instant midnight = Instant.parse("2024-02-29T00:00:00Z");
    var day = LocalDate.parse("2024-02-29");
    for (Object moment : List.of(day, day.atStartOfDay(), day.atTime(2, 0).atOffset(ZoneOffset.ofHours(2)),
        day.atTime(1, 0).atZone(ZoneId.of("Europe/Rome")), Date.from(midnight))) {
      assertEquals(midnight, there(moment));
    }
    assertEquals(List.of("s", "m"), there(new LinkedHashSet<>(List.of("s", "m"))));
    assertEquals(List.of("s", "m"), there(new String[] {"s", "m"}));
    assertEquals(List.of(38L, 39L), there(new int[] {38, 39}));
    assertEquals(List.of(38.0, 38.5, 39.0), there(List.of(38, new BigDecimal("38.5"), 39L)));
    assertEquals(List.of(), there(List.of()));
  }

  @Test
  void whatNoFieldCanHoldIsRefusedByName() {
    assertRefused(Map.of(), "no payload value can be made of java.util.ImmutableCollections$MapN; taken are String, ");
    assertRefused(new byte[1], "no payload value can be made of byte[]; taken are String, ");
    assertRefused(BigInteger.TWO.pow(63), "9223372036854775808 does not fit 64 bits");
    assertRefused(List.of("s", 1), "element 1: a list is of one type, but this is java.lang.Integer and the first java.lang.String");
    assertRefused(List.of(0.5, (1L << 60) + 1), "element 1: a list is of one type");
    assertRefused(Arrays.asList("s", null), "element 1: a list holds neither lists nor null");
    assertRefused(List.of(List.of(1)), "element 0: a list holds neither lists nor null");
  }

  private static void assertRefused(Object value, String message) {
    var refused = assertThrows(IllegalArgumentException.class, () -> Payloads.payload(Map.of("a", value)));
    String wanted = "field \"a\": " + message;
    assertEquals(wanted, refused.getMessage().substring(0, Math.min(wanted.length(), refused.getMessage().length())));
  }

  @Test
  void conditionsTakeDaysAndRefuseByName() {
    var day = Query.equal("since", LocalDate.parse("2024-02-29"), Instant.EPOCH).getMatchAny();
    assertEquals("2024-02-29", day.getValues(0).getStringValue());
    assertTrue(day.getValues(1).hasDatetimeValue());
    var refused = assertThrows(IllegalArgumentException.class, () -> Query.below("price", Map.of()));
    assertTrue(refused.getMessage().startsWith("below \"price\": no payload value can be made of"), refused.getMessage());
    assertThrows(IllegalArgumentException.class, Query::or);
  }
}
