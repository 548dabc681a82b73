package cir

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
)

const domain = "cir"

// Error is a failed call. Find it with errors.As; status.Code(err) works too.
type Error struct {
	// Code is gRPC's.
	Code codes.Code
	// Message is for people: what was wrong, what was expected, what to do.
	Message string
	// Reason is for programs: a name of cir.common.v1.ErrorReason, empty where no service said one.
	Reason string
	// Field is the path of the request's field at fault, where one is.
	Field string
	// RetryAfter is the time after which trying again makes sense, 0 where none was said.
	RetryAfter time.Duration
	// Metadata holds further facts of the reason, such as a limit.
	Metadata map[string]string
	// RequestID is the id under which the services logged the call.
	RequestID string

	status *status.Status
}

// Error tells code, reason, field and message.
func (e *Error) Error() string {
	text := e.Code.String()
	if e.Reason != "" {
		text += " " + e.Reason
	}
	if e.Field != "" {
		text += " in " + e.Field
	}
	return fmt.Sprintf("cir: %s: %s", text, e.Message)
}

// GRPCStatus is the status as it came, with all its details.
func (e *Error) GRPCStatus() *status.Status { return e.status }

// ReasonOf is the reason of a failed call: ERROR_REASON_UNSPECIFIED for an error without one, for one that
// is newer than this client, and for nil.
func ReasonOf(err error) commonv1.ErrorReason {
	var failed *Error
	if !errors.As(err, &failed) {
		return commonv1.ErrorReason_ERROR_REASON_UNSPECIFIED
	}
	return commonv1.ErrorReason(commonv1.ErrorReason_value[failed.Reason])
}

func fromRPC(err error, trailer metadata.MD) error {
	if err == nil {
		return nil
	}
	found := status.Convert(err)
	failed := &Error{Code: found.Code(), Message: found.Message(), status: found}
	if ids := trailer.Get("x-request-id"); len(ids) > 0 {
		failed.RequestID = ids[0]
	}
	for _, detail := range found.Details() {
		switch fact := detail.(type) {
		case *errdetails.ErrorInfo:
			if fact.GetDomain() == domain {
				failed.Reason, failed.Metadata = fact.GetReason(), fact.GetMetadata()
			}
		case *errdetails.BadRequest:
			if violations := fact.GetFieldViolations(); len(violations) > 0 {
				failed.Field = violations[0].GetField()
			}
		case *errdetails.RetryInfo:
			failed.RetryAfter = fact.GetRetryDelay().AsDuration()
		}
	}
	return failed
}
