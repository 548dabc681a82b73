package cir

import (
	"fmt"
	"math"
	"reflect"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
)

// Ordered are the types that bounds of a range may have.
type Ordered interface {
	int | int64 | float64 | time.Time
}

// taken are the types of payload values.
const taken = "string, bool, integers, floats, time.Time, *commonv1.GeoPoint, nil, and slices of one of these"

// Value makes a payload value of a string, a bool, an integer or float of any size, a time.Time, a
// *commonv1.GeoPoint or nil, or of several of one type ([]string, []any). Where a slice has integers and floats, all
// are floats. NaN and infinity are refused by the service.
func Value(of any) (*commonv1.Value, error) {
	switch value := of.(type) {
	case nil:
		return &commonv1.Value{Kind: &commonv1.Value_NullValue{}}, nil
	case time.Time:
		return &commonv1.Value{Kind: &commonv1.Value_DatetimeValue{DatetimeValue: timestamppb.New(value)}}, nil
	case *commonv1.GeoPoint:
		if value != nil {
			return &commonv1.Value{Kind: &commonv1.Value_GeoValue{GeoValue: value}}, nil
		}
	case []byte:
		return nil, fmt.Errorf("cir: no payload value can be made of %T; taken are %s", of, taken)
	}
	value := reflect.ValueOf(of)
	switch value.Kind() {
	case reflect.String:
		return &commonv1.Value{Kind: &commonv1.Value_StringValue{StringValue: value.String()}}, nil
	case reflect.Bool:
		return &commonv1.Value{Kind: &commonv1.Value_BoolValue{BoolValue: value.Bool()}}, nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return integer(value.Int()), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		if value.Uint() > math.MaxInt64 {
			return nil, fmt.Errorf("cir: %d does not fit 64 bits with a sign", value.Uint())
		}
		return integer(int64(value.Uint())), nil
	case reflect.Float32, reflect.Float64:
		return float(value.Float()), nil
	case reflect.Slice, reflect.Array:
		return list(value)
	}
	return nil, fmt.Errorf("cir: no payload value can be made of %T; taken are %s", of, taken)
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

func float(value float64) *commonv1.Value {
	return &commonv1.Value{Kind: &commonv1.Value_FloatValue{FloatValue: value}}
}

func list(values reflect.Value) (*commonv1.Value, error) {
	found := make([]*commonv1.Value, values.Len())
	floats := false
	for i := range found {
		one, err := Value(values.Index(i).Interface())
		if err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
		switch one.GetKind().(type) {
		case *commonv1.Value_ListValue, *commonv1.Value_NullValue:
			return nil, fmt.Errorf("element %d: cir: a list holds neither lists nor nil", i)
		case *commonv1.Value_FloatValue:
			floats = true
		}
		found[i] = one
	}
	for i, one := range found {
		if whole := one.GetIntegerValue(); floats && reflect.TypeOf(one.GetKind()) == integerKind && int64(float64(whole)) == whole {
			found[i] = float(float64(whole))
		}
		if reflect.TypeOf(found[i].GetKind()) != reflect.TypeOf(found[0].GetKind()) {
			return nil, fmt.Errorf("element %d: cir: a list is of one type, but this is %T and the first %T",
				i, values.Index(i).Interface(), values.Index(0).Interface())
		}
	}
	return &commonv1.Value{Kind: &commonv1.Value_ListValue{ListValue: &commonv1.ListValue{Values: found}}}, nil
}

var integerKind = reflect.TypeFor[*commonv1.Value_IntegerValue]()

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
