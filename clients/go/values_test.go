package cir

import (
	"reflect"
	"testing"
	"time"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
)

func TestFieldsComeBackAsTheyWent(t *testing.T) {
	fields := map[string]any{
		"kind": "dress", "sold": false, "stock": int64(9_007_199_254_740_993), "price": 49.95,
		"since": time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC), "sizes": []any{"s", "m"}, "brand": nil,
		"shop": &commonv1.GeoPoint{Latitude: 43.77, Longitude: 11.25},
	}
	payload, err := Payload(fields)
	if err != nil {
		t.Fatal(err)
	}
	if found := Fields(payload); !reflect.DeepEqual(found, fields) {
		t.Errorf("%v became %v", fields, found)
	}
}

func TestWhatNoFieldCanHoldIsRefusedByName(t *testing.T) {
	_, err := Payload(map[string]any{"sizes": []any{"s", struct{}{}}})
	if err == nil || err.Error() != `field "sizes": element 1: cir: no payload value can be made of struct {}` {
		t.Error(err)
	}
}
