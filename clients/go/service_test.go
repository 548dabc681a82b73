package cir

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

// service is a client of the search service that `make test-clients` has started: catalog "shop" holds drawn
// garments, whose images and prices the folder CIR_TEST_IMAGES and the tests know.
func service(t *testing.T) *Client {
	t.Helper()
	address := os.Getenv("CIR_TEST_SERVER")
	if address == "" {
		t.Skip("no service: CIR_TEST_SERVER is not set; make test-clients starts one")
	}
	return dial(t, address)
}

func TestTwoTurnsWithAFilter(t *testing.T) {
	client := service(t)
	image, err := ImageFile(filepath.Join(os.Getenv("CIR_TEST_IMAGES"), "red-dress.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Search.Search(soon(t), &searchv1.SearchRequest{
		Catalog: CatalogName("shop"),
		Turns:   []*searchv1.Turn{Turn(image, "in blue"), Turn(nil, "in green")},
		Filter:  All(Equal("kind", "dress"), Below("price", 50), Not(Equal("colour", "red"))),
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i, result := range answer.GetResults() {
		ids = append(ids, result.GetItem().GetId())
		fields := Fields(result.GetItem().GetPayload())
		if fields["kind"] != "dress" || fields["price"].(int64) >= 50 || result.GetRank() != uint32(i+1) {
			t.Error(result)
		}
	}
	if !slices.Equal(ids, []string{"green-dress", "blue-dress"}) {
		t.Error(ids)
	}
	var kinds []searchv1.TurnKind
	for _, turn := range answer.GetExplanation().GetTurns() {
		kinds = append(kinds, turn.GetKind())
	}
	if !slices.Equal(kinds, []searchv1.TurnKind{searchv1.TurnKind_COMPOSED, searchv1.TurnKind_CONTINUED}) {
		t.Error(kinds)
	}
}

func TestItemsPageByPage(t *testing.T) {
	request := &searchv1.ListItemsRequest{Parent: CatalogName("shop"), PageSize: 3, Filter: All(Equal("kind", "dress"))}
	var ids []string
	for item, err := range service(t).Items(soon(t), request) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, item.GetId())
	}
	slices.Sort(ids)
	if !slices.Equal(ids, []string{"black-dress", "blue-dress", "green-dress", "red-dress", "yellow-dress"}) {
		t.Error(ids)
	}
}

func TestRefusalsNameReasonAndField(t *testing.T) {
	client := service(t)
	turns := []*searchv1.Turn{Turn(nil, "a dress")}
	_, err := client.Search.Search(soon(t), &searchv1.SearchRequest{Catalog: CatalogName("missing"), Turns: turns})
	if status.Code(err) != codes.NotFound || ReasonOf(err) != commonv1.ErrorReason_CATALOG_NOT_FOUND {
		t.Error(err)
	}
	_, err = client.Search.Search(soon(t), &searchv1.SearchRequest{Catalog: CatalogName("shop"), Turns: turns, Limit: -1})
	failed, _ := err.(*Error)
	if ReasonOf(err) != commonv1.ErrorReason_OUT_OF_RANGE || failed.Field != "limit" || failed.RequestID == "" {
		t.Error(err)
	}
}

func TestAnItemWrittenByTheClientIsFound(t *testing.T) {
	client := service(t)
	encoded, err := os.ReadFile(filepath.Join(os.Getenv("CIR_TEST_IMAGES"), "red-dress.jpg"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := Payload(map[string]any{"kind": "written", "price": 7})
	if err != nil {
		t.Fatal(err)
	}
	item := &searchv1.Item{Id: "written by Go", Payload: payload}
	_, err = client.Catalogs.UpsertItems(soon(t), &searchv1.UpsertItemsRequest{
		Parent: CatalogName("shop"),
		Items:  []*searchv1.ItemWrite{{Item: item, Content: encoded}},
	})
	if err != nil {
		t.Fatal(err)
	}
	request := &searchv1.SearchRequest{
		Catalog: CatalogName("shop"), Turns: []*searchv1.Turn{Turn(Item("written by Go"), "")},
		Filter: All(Equal("kind", "written")), ExcludeReferences: new(bool),
	}
	var ids []string
	for result, err := range client.Results(soon(t), request) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, result.GetItem().GetId())
	}
	if !slices.Equal(ids, []string{"written by Go"}) {
		t.Error(ids)
	}
}
