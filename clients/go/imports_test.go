package cir

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

// breaking is a catalog service that writes items down, and whose streams break after some messages. The last of them
// is written, but not answered. Items without an image are rejected.
type breaking struct {
	searchv1.UnimplementedCatalogServiceServer
	life    int
	end     codes.Code
	details []protoadapt.MessageV1
	streams int
	written []string
	sizes   []int
}

func (b *breaking) ImportItems(stream searchv1.CatalogService_ImportItemsServer) error {
	b.streams++
	for left := b.life; ; left-- {
		request, err := stream.Recv()
		if err != nil {
			return nil
		}
		var rejected []*commonv1.ItemError
		if items := request.GetItems(); len(items) > 0 {
			b.sizes = append(b.sizes, len(items))
			for _, item := range items[len(b.written)-int(request.GetFirstIndex()):] {
				if len(item.GetContent()) == 0 {
					rejected = append(rejected, &commonv1.ItemError{Index: uint32(len(b.written)), Message: "no image"})
				}
				b.written = append(b.written, item.GetItem().GetId())
			}
		}
		if left == 0 {
			ended, err := status.New(b.end, "the end").WithDetails(b.details...)
			if err != nil {
				return err
			}
			return ended.Err()
		}
		done := uint64(len(b.written))
		answer := &searchv1.ImportItemsResponse{NextIndex: done, Written: done, Errors: rejected}
		if len(b.written) > 0 {
			answer.LastItemId = b.written[len(b.written)-1]
		}
		if err := stream.Send(answer); err != nil {
			return err
		}
	}
}

func importInto(t *testing.T, service *breaking, count, size int, options ImportOptions) (*Imported, error) {
	t.Helper()
	writes := make([]*searchv1.ItemWrite, count)
	for i := range writes {
		writes[i] = &searchv1.ItemWrite{Item: &searchv1.Item{Id: fmt.Sprint(i)}, Content: make([]byte, size)}
	}
	return importAll(t, soon(t), service, writes, options)
}

func importAll(
	t *testing.T, ctx context.Context, service *breaking, writes []*searchv1.ItemWrite, options ImportOptions,
) (*Imported, error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessageBytes))
	searchv1.RegisterCatalogServiceServer(server, service)
	grpc_health_v1.RegisterHealthServer(server, &healthOf{})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	items := func(yield func(*searchv1.ItemWrite, error) bool) {
		for _, write := range writes {
			if !yield(write, nil) {
				return
			}
		}
	}
	return dial(t, listener.Addr().String()).ImportItems(ctx, VersionName("shop", "v0001"), items, options)
}

func TestItemsCountOnceWhateverBreaks(t *testing.T) {
	service := &breaking{life: 3, end: codes.Unavailable}
	done, err := importInto(t, service, 20, 1, ImportOptions{BatchItems: 3})
	if err != nil || done.Done != 20 || service.streams < 3 {
		t.Error(done, err, service.streams)
	}
	for i, id := range service.written {
		if id != fmt.Sprint(i) || len(service.written) != 20 {
			t.Fatal(service.written)
		}
	}
}

// TestMessagesHoldWhatTheServiceTakes goes through the table that every client's tests read.
func TestMessagesHoldWhatTheServiceTakes(t *testing.T) {
	file := os.Getenv("CIR_TEST_IMPORTS")
	if file == "" {
		file = "../imports.json"
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var table []struct {
		Name               string
		Items              []struct{ Count, Image, Text, Integers int }
		Messages, Rejected []int
	}
	if err := json.Unmarshal(content, &table); err != nil {
		t.Fatal(err)
	}
	for _, row := range table {
		t.Run(row.Name, func(t *testing.T) {
			var writes []*searchv1.ItemWrite
			var ids []string
			for _, items := range row.Items {
				fields := map[string]any{}
				if items.Text > 0 {
					fields["text"] = strings.Repeat("a", items.Text)
				}
				if items.Integers > 0 {
					fields["integers"] = slices.Repeat([]int{7}, items.Integers)
				}
				payload, err := Payload(fields)
				if err != nil {
					t.Fatal(err)
				}
				for range items.Count {
					id := fmt.Sprintf("item-%d", len(writes))
					write := &searchv1.ItemWrite{Item: &searchv1.Item{Id: id, Payload: payload}, Content: make([]byte, items.Image)}
					writes, ids = append(writes, write), append(ids, id)
				}
			}
			service := &breaking{life: 100}
			done, err := importAll(t, soon(t), service, writes, ImportOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(service.sizes, row.Messages) || !slices.Equal(service.written, ids) {
				t.Error(service.sizes, service.written)
			}
			var rejected []int
			for _, failed := range done.Errors {
				rejected = append(rejected, int(failed.GetIndex()))
				isOwn := failed.GetItemId() == ids[failed.GetIndex()] && failed.GetCode() == int32(codes.InvalidArgument)
				if !isOwn || failed.GetReason() != commonv1.ErrorReason_OUT_OF_RANGE {
					t.Error(failed)
				}
			}
			if !slices.Equal(rejected, row.Rejected) {
				t.Error(rejected)
			}
		})
	}
}

func TestATextThatIsNoUnicodeIsRejectedAlone(t *testing.T) {
	payload, err := Payload(map[string]any{"title": "\xff"})
	if err != nil {
		t.Fatal(err)
	}
	service := &breaking{life: 100}
	done, err := importAll(t, soon(t), service, []*searchv1.ItemWrite{
		{Item: &searchv1.Item{Id: "a\xed\xa0\x80"}, Content: []byte("x")},
		{Item: &searchv1.Item{Id: "b"}, Content: []byte("x")},
		{Item: &searchv1.Item{Id: "c", Payload: payload}, Content: []byte("x")},
	}, ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, failed := range done.Errors {
		found = append(found, fmt.Sprintf("%d %s %s: %s", failed.GetIndex(), failed.GetItemId(), failed.GetReason(), failed.GetMessage()))
	}
	wanted := []string{
		"0 a\uFFFD FIELD_INVALID: item.id is no valid UTF-8",
		`2 c FIELD_INVALID: item.payload.fields["title"].string_value is no valid UTF-8`,
	}
	if !slices.Equal(found, wanted) || len(service.written) != 3 {
		t.Error(found, service.written)
	}
}

func TestAContextThatIsCancelledImportsNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(soon(t))
	cancel()
	service := &breaking{life: 100}
	write := &searchv1.ItemWrite{Item: &searchv1.Item{Id: "a"}, Content: []byte("x")}
	_, err := importAll(t, ctx, service, []*searchv1.ItemWrite{write}, ImportOptions{})
	if status.Code(err) != codes.Canceled || len(service.written) != 0 {
		t.Error(err, service.written)
	}
}

func TestARateThatIsUsedUpIsWaitedFor(t *testing.T) {
	limited := func(life int, wait time.Duration) *breaking {
		return &breaking{life: life, end: codes.ResourceExhausted, details: []protoadapt.MessageV1{
			&errdetails.ErrorInfo{Reason: "RATE_LIMITED", Domain: domain},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(wait)},
		}}
	}
	service := limited(3, 10*time.Millisecond)
	if done, err := importInto(t, service, 8, 1, ImportOptions{BatchItems: 3}); err != nil || done.Done != 8 || service.streams < 2 {
		t.Error(done, err, service.streams)
	}
	never := limited(0, time.Minute)
	_, err := importInto(t, never, 3, 1, ImportOptions{Patience: 30 * time.Second})
	if ReasonOf(err) != commonv1.ErrorReason_RATE_LIMITED || never.streams != 1 {
		t.Error(err, never.streams)
	}
}

func TestOptionsThatSendNothingAreRefused(t *testing.T) {
	for _, options := range []ImportOptions{{BatchItems: -1}, {Patience: -time.Second}} {
		service := &breaking{life: 100}
		if _, err := importInto(t, service, 1, 1, options); err == nil || service.streams != 0 {
			t.Error(options, err)
		}
	}
}

func TestPatienceEnds(t *testing.T) {
	service := &breaking{end: codes.Unavailable}
	_, err := importInto(t, service, 3, 1, ImportOptions{Patience: 300 * time.Millisecond})
	if status.Code(err) != codes.Unavailable || service.streams < 2 {
		t.Error(err, service.streams)
	}
	service = &breaking{end: codes.FailedPrecondition}
	_, err = importInto(t, service, 3, 1, ImportOptions{})
	if status.Code(err) != codes.FailedPrecondition || service.streams != 1 {
		t.Error(err, service.streams)
	}
}
