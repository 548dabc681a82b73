package cir

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

// replica is a search service that counts its calls.
type replica struct {
	searchv1.UnimplementedSearchServiceServer
	address string
	health  *healthOf
	calls   atomic.Int64
	answer  func(context.Context, *searchv1.SearchRequest) (*searchv1.SearchResponse, error)
}

func (r *replica) Search(ctx context.Context, request *searchv1.SearchRequest) (*searchv1.SearchResponse, error) {
	r.calls.Add(1)
	if r.answer == nil {
		return &searchv1.SearchResponse{}, nil
	}
	return r.answer(ctx, request)
}

// healthOf is the health service of a replica. Written out, because gRPC's own would bring the client's part along,
// which Dial has to bring.
type healthOf struct {
	grpc_health_v1.UnimplementedHealthServer
	drains chan struct{}
}

func (h *healthOf) Watch(_ *grpc_health_v1.HealthCheckRequest, stream grpc_health_v1.Health_WatchServer) error {
	serving := &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}
	if err := stream.Send(serving); err != nil {
		return err
	}
	select {
	case <-stream.Context().Done():
		return nil
	case <-h.drains:
	}
	draining := &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_NOT_SERVING}
	if err := stream.Send(draining); err != nil {
		return err
	}
	<-stream.Context().Done()
	return nil
}

func start(t *testing.T, options ...grpc.ServerOption) *replica {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &replica{address: listener.Addr().String(), health: &healthOf{drains: make(chan struct{})}}
	server := grpc.NewServer(append(options, grpc.MaxRecvMsgSize(maxMessageBytes))...)
	searchv1.RegisterSearchServiceServer(server, r)
	grpc_health_v1.RegisterHealthServer(server, r.health)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	return r
}

func dial(t *testing.T, address string, options ...Option) *Client {
	t.Helper()
	client, err := Dial(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func search(t *testing.T, client *Client) {
	t.Helper()
	if _, err := client.Search.Search(soon(t), &searchv1.SearchRequest{}); err != nil {
		t.Fatal(err)
	}
}

// connected searches until both replicas have answered, and forgets the count.
func connected(t *testing.T, client *Client, first, second *replica) {
	t.Helper()
	for first.calls.Load() == 0 || second.calls.Load() == 0 {
		search(t, client)
	}
	first.calls.Store(0)
	second.calls.Store(0)
}

func TestReplicasShareTheLoad(t *testing.T) {
	first, second := start(t), start(t)
	client := dial(t, first.address+", "+second.address)
	connected(t, client, first, second)
	for range 40 {
		search(t, client)
	}
	if a, b := first.calls.Load(), second.calls.Load(); a != 20 || b != 20 {
		t.Errorf("40 calls went %d to one replica and %d to the other", a, b)
	}
}

func TestAReplicaThatDrainsGetsNoCalls(t *testing.T) {
	first, second := start(t), start(t)
	client := dial(t, first.address+","+second.address)
	connected(t, client, first, second)
	close(first.health.drains)
	for before := int64(-1); before != first.calls.Load(); {
		before = first.calls.Load()
		for range 10 {
			search(t, client)
			time.Sleep(time.Millisecond)
		}
	}
	if second.calls.Load() == 0 {
		t.Error("the other replica got no calls")
	}
}

func TestALargeCallThatFoundNoServiceIsSentAgain(t *testing.T) {
	server := start(t)
	server.answer = func(context.Context, *searchv1.SearchRequest) (*searchv1.SearchResponse, error) {
		if server.calls.Load() < 3 {
			return nil, status.Error(codes.Unavailable, "not now")
		}
		return &searchv1.SearchResponse{}, nil
	}
	turns := []*searchv1.Turn{Turn(Image(bytes.Repeat([]byte{7}, 1<<20)), "")}
	if _, err := dial(t, server.address).Search.Search(soon(t), &searchv1.SearchRequest{Turns: turns}); err != nil {
		t.Fatal(err)
	}
	if calls := server.calls.Load(); calls != 3 {
		t.Errorf("sent %d times", calls)
	}
}

func TestErrorsHaveReasonFieldAndTime(t *testing.T) {
	server := start(t)
	server.answer = func(ctx context.Context, _ *searchv1.SearchRequest) (*searchv1.SearchResponse, error) {
		grpc.SetTrailer(ctx, metadata.Pairs("x-request-id", "r-1"))
		details := []protoadapt.MessageV1{
			&errdetails.ErrorInfo{Reason: "OVERLOADED", Domain: "cir", Metadata: map[string]string{"limit": "8"}},
			&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "turns[0]"}}},
			&errdetails.RetryInfo{RetryDelay: durationpb.New(250 * time.Millisecond)},
		}
		full, err := status.New(codes.ResourceExhausted, "too much").WithDetails(details...)
		if err != nil {
			return nil, err
		}
		return nil, full.Err()
	}
	_, err := dial(t, server.address).Search.Search(soon(t), &searchv1.SearchRequest{})
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("%T", err)
	}
	if failed.Code != codes.ResourceExhausted || failed.Reason != "OVERLOADED" || failed.Field != "turns[0]" ||
		failed.RetryAfter != 250*time.Millisecond || failed.Metadata["limit"] != "8" || failed.RequestID != "r-1" {
		t.Errorf("%+v", failed)
	}
	if status.Code(err) != codes.ResourceExhausted || ReasonOf(err) != commonv1.ErrorReason_OVERLOADED {
		t.Error(err)
	}
	if text := err.Error(); !strings.Contains(text, "OVERLOADED in turns[0]: too much") {
		t.Error(text)
	}
}

func TestTheKeyTravelsWithTheCall(t *testing.T) {
	server := start(t)
	var keys []string
	server.answer = func(ctx context.Context, _ *searchv1.SearchRequest) (*searchv1.SearchResponse, error) {
		sent, _ := metadata.FromIncomingContext(ctx)
		keys = append(keys, sent.Get("x-api-key")...)
		return &searchv1.SearchResponse{}, nil
	}
	search(t, dial(t, server.address, WithKey("cir_secret")))
	search(t, dial(t, server.address))
	if len(keys) != 1 || keys[0] != "cir_secret" {
		t.Error(keys)
	}
}

func TestAKeyThatCannotBeSentIsRefused(t *testing.T) {
	if _, err := Dial("localhost:1", WithKey("cir_secret\n")); err == nil || strings.Contains(err.Error(), "secret") {
		t.Error(err)
	}
}

func TestACallEndsAtItsTime(t *testing.T) {
	server := start(t)
	server.answer = func(ctx context.Context, _ *searchv1.SearchRequest) (*searchv1.SearchResponse, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	client := dial(t, server.address, WithTimeout(100*time.Millisecond))
	_, err := client.Search.Search(context.Background(), &searchv1.SearchRequest{})
	if status.Code(err) != codes.DeadlineExceeded {
		t.Error(err)
	}
}

func TestATimeThatNoDeadlineHoldsIsNoneAndNoTimeIsRefused(t *testing.T) {
	server := start(t)
	search(t, dial(t, server.address, WithTimeout(math.MaxInt64)))
	for _, timeout := range []time.Duration{0, -time.Second} {
		if _, err := Dial(server.address, WithTimeout(timeout)); err == nil {
			t.Error(timeout)
		}
	}
}

func TestATextThatIsNoUnicodeIsRefusedByName(t *testing.T) {
	query := Query("shop", Turn(nil, "red"), Turn(nil, "a\xed\xa0\x80"))
	_, err := dial(t, start(t).address).Search.Search(soon(t), query)
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != codes.InvalidArgument || failed.Field != "turns[1].text" {
		t.Error(err)
	}
}

func TestNoneOfNoConditionsIsNoFilter(t *testing.T) {
	// The service refuses a condition of no kind, where an empty one of "should" lets everything pass.
	if condition := Or(); condition.GetKind() != nil {
		t.Error(condition)
	}
}

func TestTLSInBothDirections(t *testing.T) {
	folder := os.Getenv("CIR_TEST_TLS")
	if folder == "" {
		t.Skip("no certificates: CIR_TEST_TLS is not set; make test-clients makes some")
	}
	read := func(name string) tls.Certificate {
		pair, err := tls.LoadX509KeyPair(filepath.Join(folder, name+".crt"), filepath.Join(folder, name+".key"))
		if err != nil {
			t.Fatal(err)
		}
		return pair
	}
	authority, err := os.ReadFile(filepath.Join(folder, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authority)
	server := start(t, grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{read("ca-server")}, ClientCAs: trusted, ClientAuth: tls.RequireAndVerifyClientCert,
	})))
	pair := []tls.Certificate{read("ca-client")}
	search(t, dial(t, server.address, WithTLS(&tls.Config{RootCAs: trusted, Certificates: pair})))
	for name, config := range map[string]*tls.Config{
		"no certificate of its own": {RootCAs: trusted},
		"an unknown authority":      {Certificates: pair},
	} {
		_, err := dial(t, server.address, WithTLS(config)).Search.Search(soon(t), &searchv1.SearchRequest{})
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPagesEndWithTheirTokensOrAnError(t *testing.T) {
	server := start(t)
	server.answer = func(_ context.Context, request *searchv1.SearchRequest) (*searchv1.SearchResponse, error) {
		result := func(rank uint32) []*searchv1.SearchResult { return []*searchv1.SearchResult{{Rank: rank}} }
		switch request.GetPageToken() {
		case "":
			return &searchv1.SearchResponse{Results: result(1), NextPageToken: "second"}, nil
		case "second":
			return &searchv1.SearchResponse{Results: result(2), NextPageToken: request.GetParent()}, nil
		}
		return nil, status.Error(codes.InvalidArgument, "no such page")
	}
	client := dial(t, server.address)
	read := func(catalog string) (ranks []uint32, failed error) {
		for result, err := range client.Results(soon(t), &searchv1.SearchRequest{Parent: catalog}) {
			if err != nil {
				return ranks, err
			}
			ranks = append(ranks, result.GetRank())
		}
		return ranks, nil
	}
	if ranks, err := read(""); err != nil || len(ranks) != 2 || ranks[1] != 2 {
		t.Error(ranks, err)
	}
	if ranks, err := read("broken"); status.Code(err) != codes.InvalidArgument || len(ranks) != 2 {
		t.Error(ranks, err)
	}
}
