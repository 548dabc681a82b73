package cir

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

const (
	window        = 8       // messages that are sent before the first of them is answered
	maxBatchBytes = 4 << 20 // of a message, unless a single item has more
	// The same besides images and features. A service takes 100,000 fields and elements in a message, each of which has
	// two bytes or more.
	maxBatchFacts = 200_000
	// What no item has that a service takes: a payload has at most 1 MiB as JSON and 10,000 fields and elements.
	maxFacts       = 2 << 20
	maxValues      = 10_000
	maxItemIDBytes = 2048
)

// ImportOptions change how ImportItems sends. The zero value will do.
type ImportOptions struct {
	// Token names the import, so that a program that is started again goes on where it was: it gives the same token
	// and the same items from the first on. Empty: one of this call's own.
	Token string
	// BatchItems is how many items go into a message, fewer where they are large; 0 means 64.
	BatchItems int
	// Patience is how long streams that break, or are put off, are opened again after the last item that got done; 0
	// means a minute.
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
// the connection or the service breaks meanwhile. Items that the service rejects, and those that no message holds, fail
// alone. FinishCatalogVersion and PublishCatalogVersion come next.
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
	if options.BatchItems < 1 || options.Patience < 0 {
		return nil, fmt.Errorf("cir: BatchItems is %d and Patience %v; neither is negative", options.BatchItems, options.Patience)
	}
	if options.Patience == 0 {
		options.Patience = time.Minute
	}
	next, stop := iter.Pull2(items)
	defer stop()
	work := &importing{
		version: version, options: options, next: next, ownErrors: map[uint64]*commonv1.ItemError{},
		progress: Imported{Token: options.Token},
	}
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
		reason := ReasonOf(failed)
		return reason == commonv1.ErrorReason_OVERLOADED || reason == commonv1.ErrorReason_RATE_LIMITED
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
	ownErrors  map[uint64]*commonv1.ItemError // of items that were not sent, until their place is answered for
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
	}
	size, facts := 0, 0
	for len(message.Items) < w.options.BatchItems {
		item := w.left
		if w.left = nil; item == nil {
			next, err, there := w.next()
			if !there {
				break
			}
			if err != nil {
				return false, err
			}
			item = w.sendable(next)
			w.taken++
		}
		size, facts = size+proto.Size(item), facts+factsOf(item)
		if len(message.Items) > 0 && (size > maxBatchBytes || facts > maxBatchFacts) {
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

// sendable is the item; of one that cannot be sent the id alone, which the service refuses at its place.
func (w *importing) sendable(item *searchv1.ItemWrite) *searchv1.ItemWrite {
	id := item.GetItem().GetId()
	failed := &commonv1.ItemError{Index: uint32(w.taken), ItemId: id, Code: int32(codes.InvalidArgument)}
	if field := notUnicode(item.ProtoReflect()); field != "" {
		failed.Reason, failed.Message = commonv1.ErrorReason_FIELD_INVALID, field+" is no valid UTF-8"
	} else if problem := sizeProblem(item); problem != "" {
		failed.Reason, failed.Message = commonv1.ErrorReason_OUT_OF_RANGE, problem
	} else {
		return item
	}
	failed.ItemId = sentID(id)
	w.ownErrors[w.taken] = failed
	return &searchv1.ItemWrite{Item: &searchv1.Item{Id: failed.ItemId}}
}

// sentID is an id as it is sent where it may be none: Unicode, and no longer than what is answered of it.
func sentID(id string) string {
	return strings.ToValidUTF8(id[:min(len(id), 4*maxItemIDBytes)], "\uFFFD")
}

// factsOf is the bytes of an item besides image and features.
func factsOf(item *searchv1.ItemWrite) int {
	return proto.Size(item) - len(item.GetContent()) - len(item.GetItem().GetFeatures().GetData())
}

// sizeProblem is what keeps an item from being sent, or an empty text.
func sizeProblem(item *searchv1.ItemWrite) string {
	size, facts := proto.Size(item), factsOf(item)
	if size+64 > maxMessageBytes {
		return fmt.Sprintf("the item has %d bytes, a message at most %d; send a smaller image", size, maxMessageBytes)
	}
	if facts > maxFacts {
		return fmt.Sprintf("the item has %d bytes besides image and features; a payload has at most 1 MiB as JSON", facts)
	}
	if facts <= maxBatchFacts {
		return "" // two bytes or more are a value, so there are no more than are taken
	}
	values := 0
	for _, value := range item.GetItem().GetPayload().GetFields() {
		values += countOf(value)
	}
	if values > maxValues {
		return fmt.Sprintf("the payload has %d fields and elements of lists, at most %d are allowed", values, maxValues)
	}
	return ""
}

func countOf(value *commonv1.Value) int {
	count := 1
	for _, element := range value.GetListValue().GetValues() {
		count += countOf(element)
	}
	return count
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
	for _, failed := range answer.GetErrors() {
		index := uint64(failed.GetIndex())
		if own, there := w.ownErrors[index]; there {
			failed = own
			delete(w.ownErrors, index)
		}
		w.progress.Errors = append(w.progress.Errors, failed)
	}
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
	if id := sentID(last.GetItem().GetId()); last != nil && len(id) <= maxItemIDBytes && id != answer.GetLastItemId() {
		return fmt.Errorf("cir: item %d is %q, but the import with token %q has %q there; give each import a token of its own",
			answer.GetNextIndex()-1, id, w.options.Token, answer.GetLastItemId())
	}
	return nil
}
