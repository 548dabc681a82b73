package cir

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
)

// Ordered are the types that bounds of a range may have.
type Ordered interface {
	int | int64 | float64 | time.Time
}

// Value makes a payload value of a string, bool, int, int64, float64, time.Time, *commonv1.GeoPoint or nil, or of
// several of one type ([]string, []any). NaN and infinity are refused by the service.
func Value(of any) (*commonv1.Value, error) {
	switch value := of.(type) {
	case nil:
		return &commonv1.Value{Kind: &commonv1.Value_NullValue{}}, nil
	case string:
		return &commonv1.Value{Kind: &commonv1.Value_StringValue{StringValue: value}}, nil
	case bool:
		return &commonv1.Value{Kind: &commonv1.Value_BoolValue{BoolValue: value}}, nil
	case int:
		return integer(int64(value)), nil
	case int64:
		return integer(value), nil
	case float64:
		return &commonv1.Value{Kind: &commonv1.Value_FloatValue{FloatValue: value}}, nil
	case time.Time:
		return &commonv1.Value{Kind: &commonv1.Value_DatetimeValue{DatetimeValue: timestamppb.New(value)}}, nil
	case *commonv1.GeoPoint:
		return &commonv1.Value{Kind: &commonv1.Value_GeoValue{GeoValue: value}}, nil
	case []string:
		return list(value)
	case []any:
		return list(value)
	}
	return nil, fmt.Errorf("cir: no payload value can be made of %T", of)
}

// scalar is Value for types that it takes.
func scalar(of any) *commonv1.Value {
	value, err := Value(of)
	if err != nil {
		panic(err)
	}
	return value
}

func integer(value int64) *commonv1.Value {
	return &commonv1.Value{Kind: &commonv1.Value_IntegerValue{IntegerValue: value}}
}

func list[T any](values []T) (*commonv1.Value, error) {
	found := make([]*commonv1.Value, len(values))
	for i, value := range values {
		one, err := Value(value)
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		found[i] = one
	}
	return &commonv1.Value{Kind: &commonv1.Value_ListValue{ListValue: &commonv1.ListValue{Values: found}}}, nil
}

// Payload makes a payload of fields; their values are as Value takes them.
func Payload(fields map[string]any) (*commonv1.Payload, error) {
	payload := &commonv1.Payload{Fields: make(map[string]*commonv1.Value, len(fields))}
	for name, of := range fields {
		value, err := Value(of)
		if err != nil {
			return nil, fmt.Errorf("field %q: %w", name, err)
		}
		payload.Fields[name] = value
	}
	return payload, nil
}

// Fields are the fields of a payload as Go values: string, bool, int64, float64, time.Time,
// *commonv1.GeoPoint, []any, or nil.
func Fields(payload *commonv1.Payload) map[string]any {
	fields := make(map[string]any, len(payload.GetFields()))
	for name, value := range payload.GetFields() {
		fields[name] = plain(value)
	}
	return fields
}

func plain(value *commonv1.Value) any {
	switch kind := value.GetKind().(type) {
	case *commonv1.Value_StringValue:
		return kind.StringValue
	case *commonv1.Value_BoolValue:
		return kind.BoolValue
	case *commonv1.Value_IntegerValue:
		return kind.IntegerValue
	case *commonv1.Value_FloatValue:
		return kind.FloatValue
	case *commonv1.Value_DatetimeValue:
		return kind.DatetimeValue.AsTime()
	case *commonv1.Value_GeoValue:
		return kind.GeoValue
	case *commonv1.Value_ListValue:
		values := make([]any, len(kind.ListValue.GetValues()))
		for i, one := range kind.ListValue.GetValues() {
			values[i] = plain(one)
		}
		return values
	}
	return nil
}
