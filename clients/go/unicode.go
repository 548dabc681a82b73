package cir

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// notUnicode is the path of the first text of a message that is no UTF-8, or empty where all are: "turns[0].text".
func notUnicode(message protoreflect.Message) string {
	found := ""
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		name := string(field.Name())
		switch {
		case field.IsMap():
			value.Map().Range(func(key protoreflect.MapKey, entry protoreflect.Value) bool {
				if found = textPath(field.MapKey(), key.Value()); found == "" {
					found = textPath(field.MapValue(), entry)
				}
				if found != "" {
					found = fmt.Sprintf("%s[%+q]%s", name, key.String(), found[1:])
				}
				return found == ""
			})
		case field.IsList():
			for i := range value.List().Len() {
				if found = textPath(field, value.List().Get(i)); found != "" {
					found = fmt.Sprintf("%s[%d]%s", name, i, found[1:])
					break
				}
			}
		default:
			if found = textPath(field, value); found != "" {
				found = name + found[1:]
			}
		}
		return found == ""
	})
	return found
}

// textPath is the path within a value, behind a sign that something was found.
func textPath(field protoreflect.FieldDescriptor, value protoreflect.Value) string {
	switch field.Kind() {
	case protoreflect.StringKind:
		if !utf8.ValidString(value.String()) {
			return "!"
		}
	case protoreflect.MessageKind:
		if path := notUnicode(value.Message()); path != "" {
			return "!." + path
		}
	}
	return ""
}
