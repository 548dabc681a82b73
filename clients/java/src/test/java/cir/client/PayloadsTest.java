package cir.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import cir.common.v1.GeoPoint;
import java.time.Instant;
import java.util.LinkedHashMap;
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

  @Test
  void whatNoFieldCanHoldIsRefused() {
    assertThrows(IllegalArgumentException.class, () -> Payloads.value(Map.of()));
  }
}
