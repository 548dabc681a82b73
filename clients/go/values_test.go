package cir

import (
	"math"
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

func TestAListOfNumbersIsOfFloatsWhereOneOfThemIs(t *testing.T) {
	type size int32
	made, err := Payload(map[string]any{
		"mixed": []any{38, 38.5, int64(39)}, "whole": []size{38, 39}, "truths": [2]bool{true, false}, "small": uint8(7),
	})
	if err != nil {
		t.Fatal(err)
	}
	wanted := map[string]any{
		"mixed": []any{38.0, 38.5, 39.0}, "whole": []any{int64(38), int64(39)}, "truths": []any{true, false}, "small": int64(7),
	}
	if found := Fields(made); !reflect.DeepEqual(found, wanted) {
		t.Error(found)
	}
}

func TestWhatNoFieldCanHoldIsRefusedByName(t *testing.T) {
	for message, value := range map[string]any{
		"element 1: cir: no payload value can be made of struct {}; taken are " + taken: []any{"s", struct{}{}},
		"cir: no payload value can be made of map[string]int; taken are " + taken:       map[string]int{},
		"cir: no payload value can be made of []uint8; taken are " + taken:              []byte("s"),
		"cir: no payload value can be made of *commonv1.GeoPoint; taken are " + taken:   (*commonv1.GeoPoint)(nil),
		"cir: 18446744073709551615 does not fit 64 bits with a sign":                    uint64(math.MaxUint64),
		"element 1: cir: a list is of one type, but this is int and the first string":   []any{"s", 1},
		"element 0: cir: a list holds neither lists nor nil":                            []any{nil},
		"element 1: cir: a list is of one type, but this is int and the first float64":  []any{0.5, 1<<60 + 1},
	} {
		_, err := Payload(map[string]any{"sizes": value})
		if err == nil || err.Error() != `field "sizes": `+message {
			t.Error(err, message)
		}
	}
}
