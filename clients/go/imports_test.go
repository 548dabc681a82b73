package cir

import (
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

// breaking is a catalog service that writes items down, and whose streams break after some messages. The last of them
// is written, but not answered.
type breaking struct {
	searchv1.UnimplementedCatalogServiceServer
	life    int
	end     codes.Code
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
		if items := request.GetItems(); len(items) > 0 {
			b.sizes = append(b.sizes, len(items))
			for _, item := range items[len(b.written)-int(request.GetFirstIndex()):] {
				b.written = append(b.written, item.GetItem().GetId())
			}
		}
		if left == 0 {
			return status.Error(b.end, "the end")
		}
		answer := &searchv1.ImportItemsResponse{NextIndex: uint64(len(b.written)), Written: uint64(len(b.written))}
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
		for i := range count {
			write := &searchv1.ItemWrite{Item: &searchv1.Item{Id: fmt.Sprint(i)}, Content: make([]byte, size)}
			if !yield(write, nil) {
				return
			}
		}
	}
	return dial(t, listener.Addr().String()).ImportItems(soon(t), VersionName("shop", "v0001"), items, options)
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

func TestMessagesStaySmall(t *testing.T) {
	service := &breaking{life: 100}
	if _, err := importInto(t, service, 7, 3<<19, ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(service.sizes, []int{2, 2, 2, 1}) || len(service.written) != 7 {
		t.Error(service.sizes, service.written)
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
