package cir

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

const (
	window         = 8 // messages that are sent before the first of them is answered
	maxBatchBytes  = 4 << 20
	maxItemIDBytes = 2048
)

// ImportOptions change how ImportItems sends. The zero value will do.
type ImportOptions struct {
	// Token names the import, so that a program that is started again goes on where it was: it gives the same token
	// and the same items from the first on. Empty: one of this call's own.
	Token string
	// BatchItems is how many items go into a message; 0 means 64.
	BatchItems int
	// Patience is how long streams that break are opened again after the last item that got done; 0 means a minute.
	Patience time.Duration
	// OnProgress is called with each answer.
	OnProgress func(*Imported)
}

// Imported is how far an import is.
type Imported struct {
	// Done is the number of items that are written or rejected.
	Done, Written, Rejected uint64
	// Errors has an entry for each item that was rejected, by its place in the import; fewer where an import was
	// resumed and the service remembers no more.
	Errors []*commonv1.ItemError
	// Token is the import's.
	Token string
}

// VersionName is the resource name of a version, "catalogs/shop/versions/v0001".
func VersionName(catalog, version string) string {
	return CatalogName(catalog) + "/versions/" + version
}

// ImportItems writes items into a version that is being built (CreateCatalogVersion), by its resource name. The items
// are read once, in order; an error of theirs ends the import and is returned. Each is written exactly once, also when
// the connection or the service breaks meanwhile. Items that the service rejects fail alone. FinishCatalogVersion and
// PublishCatalogVersion come next.
func (c *Client) ImportItems(
	ctx context.Context, version string, items iter.Seq2[*searchv1.ItemWrite, error], options ImportOptions,
) (*Imported, error) {
	if options.Token == "" {
		random := make([]byte, 16)
		_, _ = rand.Read(random) // never fails
		options.Token = hex.EncodeToString(random)
	}
	if options.BatchItems == 0 {
		options.BatchItems = 64
	}
	if options.Patience == 0 {
		options.Patience = time.Minute
	}
	next, stop := iter.Pull2(items)
	defer stop()
	work := &importing{version: version, options: options, next: next, progress: Imported{Token: options.Token}}
	deadline, wait := time.Now().Add(options.Patience), 200*time.Millisecond
	for {
		before := work.progress.Done
		err := work.stream(ctx, c)
		if err == nil {
			return &work.progress, nil
		}
		if work.progress.Done > before {
			deadline, wait = time.Now().Add(options.Patience), 200*time.Millisecond
		}
		pause := wait
		var failed *Error
		if errors.As(err, &failed) {
			pause = max(pause, failed.RetryAfter)
		}
		if ctx.Err() != nil || !resumable(failed) || time.Now().Add(pause).After(deadline) {
			return &work.progress, err
		}
		select {
		case <-ctx.Done():
			return &work.progress, err
		case <-time.After(pause):
		}
		wait = min(2*wait, 5*time.Second)
	}
}

func resumable(failed *Error) bool {
	if failed == nil {
		return false
	}
	switch failed.Code {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.ResourceExhausted:
		return failed.Reason == commonv1.ErrorReason_OVERLOADED.String()
	case codes.Unknown:
		return failed.Reason == "" // what gRPC makes of some breaks
	}
	return false
}

// importing is the state of an import over all its streams.
type importing struct {
	version    string
	options    ImportOptions
	next       func() (*searchv1.ItemWrite, error, bool)
	taken      uint64                         // items taken from next
	left       *searchv1.ItemWrite            // one of them that did not fit into the message before
	unanswered []*searchv1.ImportItemsRequest // kept to be sent again
	progress   Imported
}

// stream sends items over one stream until all are done.
func (w *importing) stream(ctx context.Context, c *Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	call, err := c.Catalogs.ImportItems(ctx)
	if err != nil {
		return fromRPC(err, nil)
	}
	receive := func() (*searchv1.ImportItemsResponse, error) {
		answer, err := call.Recv()
		if err != nil && err != io.EOF {
			return nil, fromRPC(err, call.Trailer())
		}
		return answer, err
	}
	done := w.progress.Done
	opening := &searchv1.ImportItemsRequest{
		Parent: w.version, Token: w.options.Token, FirstIndex: done, KnownIndex: done,
	}
	if err := call.Send(opening); err != nil && err != io.EOF {
		return fromRPC(err, nil)
	}
	answer, err := receive()
	if err != nil {
		return err
	}
	if err := w.skip(answer); err != nil {
		return err
	}
	w.take(answer)
	for sent := 0; ; {
		for len(w.unanswered) > sent || sent < window {
			if sent == len(w.unanswered) {
				if full, err := w.batch(); err != nil {
					return err
				} else if !full {
					break
				}
			}
			// After a refusal Send says EOF, and Recv why.
			if err := call.Send(w.unanswered[sent]); err == io.EOF {
				break
			} else if err != nil {
				return fromRPC(err, nil)
			}
			sent++
			if sent == window {
				break
			}
		}
		if sent == 0 {
			if err := call.CloseSend(); err != nil {
				return fromRPC(err, nil)
			}
		}
		answer, err := receive()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		before := len(w.unanswered)
		w.take(answer)
		sent -= before - len(w.unanswered)
	}
}

// batch takes the items of the next message; false when there are none.
func (w *importing) batch() (bool, error) {
	message := &searchv1.ImportItemsRequest{FirstIndex: w.taken}
	if w.left != nil {
		message.FirstIndex--
		message.Items, w.left = append(message.Items, w.left), nil
	}
	size := proto.Size(message)
	for len(message.Items) < w.options.BatchItems {
		item, err, there := w.next()
		if !there {
			break
		}
		if err != nil {
			return false, err
		}
		w.taken++
		if size += proto.Size(item); len(message.Items) > 0 && size > maxBatchBytes {
			w.left = item
			break
		}
		message.Items = append(message.Items, item)
	}
	if len(message.Items) == 0 {
		return false, nil
	}
	w.unanswered = append(w.unanswered, message)
	return true, nil
}

// take notes what an answer says is done.
func (w *importing) take(answer *searchv1.ImportItemsResponse) {
	for len(w.unanswered) > 0 {
		first := w.unanswered[0]
		if first.GetFirstIndex()+uint64(len(first.GetItems())) > answer.GetNextIndex() {
			break
		}
		w.unanswered = w.unanswered[1:]
	}
	w.progress.Done, w.progress.Written = answer.GetNextIndex(), answer.GetWritten()
	w.progress.Rejected = answer.GetRejected()
	w.progress.Errors = append(w.progress.Errors, answer.GetErrors()...)
	if w.options.OnProgress != nil {
		w.options.OnProgress(&w.progress)
	}
}

// skip passes over items that an earlier program with this token has sent.
func (w *importing) skip(answer *searchv1.ImportItemsResponse) error {
	var last *searchv1.ItemWrite
	for w.taken < answer.GetNextIndex() {
		item, err, there := w.next()
		if err != nil {
			return err
		}
		if !there {
			return fmt.Errorf("cir: %d items are done by token %q, but there are %d; give each import a token of its own",
				answer.GetNextIndex(), w.options.Token, w.taken)
		}
		last = item
		w.taken++
	}
	if id := last.GetItem().GetId(); last != nil && len(id) <= maxItemIDBytes && id != answer.GetLastItemId() {
		return fmt.Errorf("cir: item %d is %q, but the import with token %q has %q there; give each import a token of its own",
			answer.GetNextIndex()-1, id, w.options.Token, answer.GetLastItemId())
	}
	return nil
}
