package cir

import (
	"context"
	"iter"
	"os"
	"time"

	"google.golang.org/protobuf/proto"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

// CatalogName is the resource name of a catalog, "catalogs/shop".
func CatalogName(catalog string) string { return "catalogs/" + catalog }

// Image refers to an encoded image (JPEG, PNG, WebP, ...).
func Image(encoded []byte) *searchv1.Reference {
	return &searchv1.Reference{Source: &searchv1.Reference_Image{Image: encoded}}
}

// ImageFile refers to an image file of this machine; what travels are its bytes.
func ImageFile(path string) (*searchv1.Reference, error) {
	encoded, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return Image(encoded), nil
}

// Item refers to an item of the catalog, whose features are there already.
func Item(id string) *searchv1.Reference {
	return &searchv1.Reference{Source: &searchv1.Reference_ItemId{ItemId: id}}
}

// Turn is a step of the dialogue: what is looked at, and the change wanted. Without a reference (nil) the text
// applies to what the turns before have composed, and in a first turn is searched by.
func Turn(reference *searchv1.Reference, text string) *searchv1.Turn {
	return &searchv1.Turn{Reference: reference, Text: text}
}

// Query asks for the items of a catalog that fit some turns, oldest first. Filter, PageSize and the others are set on it.
func Query(catalog string, turns ...*searchv1.Turn) *searchv1.SearchRequest {
	return &searchv1.SearchRequest{Parent: CatalogName(catalog), Turns: turns}
}

// Results runs over the results of a query, best first, page after page as far as the service pages. The
// request is not changed; its PageSize is the size of a page. An error ends the loop and comes with a nil result.
func (c *Client) Results(ctx context.Context, request *searchv1.SearchRequest) iter.Seq2[*searchv1.SearchResult, error] {
	return pages(proto.CloneOf(request), func(page *searchv1.SearchRequest, token string) ([]*searchv1.SearchResult, string, error) {
		page.PageToken = token
		answer, err := c.Search.Search(ctx, page)
		return answer.GetResults(), answer.GetNextPageToken(), err
	})
}

// Items runs over the items of a catalog, page after page, as Results does.
func (c *Client) Items(ctx context.Context, request *searchv1.ListItemsRequest) iter.Seq2[*searchv1.Item, error] {
	return pages(proto.CloneOf(request), func(page *searchv1.ListItemsRequest, token string) ([]*searchv1.Item, string, error) {
		page.PageToken = token
		answer, err := c.Catalogs.ListItems(ctx, page)
		return answer.GetItems(), answer.GetNextPageToken(), err
	})
}

func pages[R interface{ GetPageToken() string }, T any](
	request R, fetch func(page R, token string) ([]T, string, error),
) iter.Seq2[T, error] {
	first := request.GetPageToken()
	return func(yield func(T, error) bool) {
		for token := first; ; {
			found, next, err := fetch(request, token)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, one := range found {
				if !yield(one, nil) {
					return
				}
			}
			if next == "" {
				return
			}
			token = next
		}
	}
}

// All is the filter that lets an item pass for which every condition holds; Or and Not are conditions too.
func All(conditions ...*searchv1.Condition) *searchv1.Filter {
	return &searchv1.Filter{Must: conditions}
}

// Equal holds where a field has one of some values; of a field of moments a time.Time is the moment, "2025-06-01" the
// whole day in UTC.
func Equal[T string | bool | int | int64 | time.Time](field string, values ...T) *searchv1.Condition {
	wanted := make([]*commonv1.Value, len(values))
	for i, value := range values {
		wanted[i] = scalar(value)
	}
	return &searchv1.Condition{Kind: &searchv1.Condition_MatchAny{
		MatchAny: &searchv1.MatchAny{Field: field, Values: wanted},
	}}
}

// AtLeast holds where a field is a value or above.
func AtLeast[T Ordered](field string, value T) *searchv1.Condition {
	return within(&searchv1.Range{Field: field, Gte: scalar(value)})
}

// AtMost holds where a field is a value or below.
func AtMost[T Ordered](field string, value T) *searchv1.Condition {
	return within(&searchv1.Range{Field: field, Lte: scalar(value)})
}

// Above holds where a field is above a value.
func Above[T Ordered](field string, value T) *searchv1.Condition {
	return within(&searchv1.Range{Field: field, Gt: scalar(value)})
}

// Below holds where a field is below a value.
func Below[T Ordered](field string, value T) *searchv1.Condition {
	return within(&searchv1.Range{Field: field, Lt: scalar(value)})
}

func within(bounds *searchv1.Range) *searchv1.Condition {
	return &searchv1.Condition{Kind: &searchv1.Condition_Range{Range: bounds}}
}

// Has holds where a field has a value.
func Has(field string) *searchv1.Condition {
	return &searchv1.Condition{Kind: &searchv1.Condition_Exists{Exists: &searchv1.Exists{Field: field}}}
}

// Words holds where a text field has every word of a text.
func Words(field, text string) *searchv1.Condition {
	return &searchv1.Condition{Kind: &searchv1.Condition_MatchText{
		MatchText: &searchv1.MatchText{Field: field, Text: text},
	}}
}

// Not holds where none of some conditions does.
func Not(conditions ...*searchv1.Condition) *searchv1.Condition {
	return nested(&searchv1.Filter{MustNot: conditions})
}

// Or holds where at least one of some conditions does. Of none, which is what an empty selection gives, none can hold:
// the service refuses it as a condition without a kind.
func Or(conditions ...*searchv1.Condition) *searchv1.Condition {
	if len(conditions) == 0 {
		return &searchv1.Condition{}
	}
	return nested(&searchv1.Filter{Should: conditions})
}

func nested(filter *searchv1.Filter) *searchv1.Condition {
	return &searchv1.Condition{Kind: &searchv1.Condition_Filter{Filter: filter}}
}
