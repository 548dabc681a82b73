// Package cir is the Go client of composed image retrieval: find what looks like this image, with the
// change a text describes.
//
// Requests and answers are the generated messages below gen/, whose comments are the reference. This package
// adds what is easily got wrong by hand: a channel that uses every replica, typed errors, and short forms
// for turns, filters, payloads and pages.
package cir

import (
	"context"
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // answers the healthCheckConfig of the service config
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/dns"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

// ServiceConfig is the service config of every client, as docs/clients.md publishes it: round robin over the
// replicas that serve, and calls that found none sent again.
//
//go:embed service_config.json
var ServiceConfig string

const (
	maxMessageBytes = 64 << 20
	keyHeader       = "x-api-key"
)

func init() {
	// A connection that a replica has closed, because it drains or because the connection is old, has the name
	// looked up again; the default lets 30 seconds pass in between.
	dns.SetMinResolutionInterval(time.Second)
}

// Client calls the search service. Safe for concurrent use; make one and keep it.
type Client struct {
	// Search answers composed, turn-based, filtered queries.
	Search searchv1.SearchServiceClient
	// Catalogs reads and changes catalogs and their items.
	Catalogs searchv1.CatalogServiceClient

	conn *grpc.ClientConn
}

type settings struct {
	key         string
	timeout     time.Duration
	credentials credentials.TransportCredentials
	dial        []grpc.DialOption
}

// Option changes how Dial connects.
type Option func(*settings)

// WithKey sends an API key with every call.
func WithKey(key string) Option { return func(s *settings) { s.key = key } }

// WithTLS encrypts. The empty config trusts the authorities of the system; RootCAs names others, and
// Certificates is what a client shows of itself for mutual TLS.
func WithTLS(config *tls.Config) Option {
	return func(s *settings) { s.credentials = credentials.NewTLS(config) }
}

// WithTimeout is the time that a call may take whose context has no deadline; 30 s. Imports are no such calls.
func WithTimeout(timeout time.Duration) Option { return func(s *settings) { s.timeout = timeout } }

// WithDialOptions hands options to gRPC, after those of this package.
func WithDialOptions(options ...grpc.DialOption) Option {
	return func(s *settings) { s.dial = append(s.dial, options...) }
}

// Dial makes a client of the service at an address: "host:port", whose name may stand for several replicas,
// replicas one by one, "host1:port,host2:port", or any target of gRPC ("unix:/path"). Connects with the first
// call. Without WithTLS nothing is encrypted.
func Dial(address string, options ...Option) (*Client, error) {
	set := settings{credentials: insecure.NewCredentials(), timeout: 30 * time.Second}
	for _, option := range options {
		option(&set)
	}
	if strings.ContainsFunc(set.key, func(r rune) bool { return r < ' ' || r > '~' }) {
		return nil, errors.New("cir: an API key has printable ASCII characters only")
	}
	if set.timeout <= 0 {
		return nil, fmt.Errorf("cir: a timeout is above 0, not %v", set.timeout)
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(set.credentials),
		grpc.WithDefaultServiceConfig(ServiceConfig),
		// The shortest time that Go keeps to. A replica whose machine is gone closes no connection.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(maxMessageBytes),
			grpc.MaxCallSendMsgSize(maxMessageBytes),
			// A request that does not fit into the buffer is never sent again; the default is 256 KiB.
			grpc.MaxRetryRPCBufferSize(maxMessageBytes),
		),
		grpc.WithUnaryInterceptor(interceptor(set.key, set.timeout)),
		grpc.WithStreamInterceptor(streamInterceptor(set.key)),
	}
	if replicas := strings.Split(address, ","); len(replicas) > 1 {
		var found resolver.State
		for _, replica := range replicas {
			one := resolver.Address{Addr: strings.TrimSpace(replica)}
			found.Endpoints = append(found.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{one}})
		}
		static := manual.NewBuilderWithScheme("replicas")
		static.InitialState(found)
		dial = append(dial, grpc.WithResolvers(static))
		address = "replicas:///" + strings.TrimSpace(replicas[0])
	}
	conn, err := grpc.NewClient(address, append(dial, set.dial...)...)
	if err != nil {
		return nil, fmt.Errorf("cir: address %q: %w", address, err)
	}
	return &Client{
		Search:   searchv1.NewSearchServiceClient(conn),
		Catalogs: searchv1.NewCatalogServiceClient(conn),
		conn:     conn,
	}, nil
}

// Conn is the channel, for the stubs of other services.
func (c *Client) Conn() *grpc.ClientConn { return c.conn }

// Close ends the channel; calls under way fail.
func (c *Client) Close() error { return c.conn.Close() }

// interceptor sends the key, sets a deadline and makes every error an *Error.
func interceptor(key string, timeout time.Duration) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, request, answer any, conn *grpc.ClientConn,
		invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
		if key != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, keyHeader, key)
		}
		if _, isSet := ctx.Deadline(); !isSet {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		var trailer metadata.MD
		err := invoke(ctx, method, request, answer, conn, append(options, grpc.Trailer(&trailer))...)
		if message, is := request.(proto.Message); is && status.Code(err) == codes.Internal {
			// Where a text is no UTF-8, gRPC calls it an error of its own, without the field.
			if field := notUnicode(message.ProtoReflect()); field != "" {
				found := status.New(codes.InvalidArgument, field+" is no valid UTF-8")
				return &Error{
					Code: found.Code(), Message: found.Message(), Reason: commonv1.ErrorReason_FIELD_INVALID.String(),
					Field: field, status: found,
				}
			}
		}
		return fromRPC(err, trailer)
	}
}

// streamInterceptor sends the key.
func streamInterceptor(key string) grpc.StreamClientInterceptor {
	return func(ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string,
		open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
		if key != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, keyHeader, key)
		}
		return open(ctx, description, conn, method, options...)
	}
}
