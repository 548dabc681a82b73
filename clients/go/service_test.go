package cir

import (
	"errors"
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
		Parent: CatalogName("shop"),
		Turns:  []*searchv1.Turn{Turn(image, "in blue"), Turn(nil, "in green")},
		Filter: All(Equal("kind", "dress"), Below("price", 50), Not(Equal("colour", "red"))),
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
	if !slices.Equal(kinds, []searchv1.TurnKind{searchv1.TurnKind_TURN_KIND_COMPOSED, searchv1.TurnKind_TURN_KIND_CONTINUED}) {
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
	_, err := client.Search.Search(soon(t), &searchv1.SearchRequest{Parent: CatalogName("missing"), Turns: turns})
	if status.Code(err) != codes.NotFound || ReasonOf(err) != commonv1.ErrorReason_CATALOG_NOT_FOUND {
		t.Error(err)
	}
	_, err = client.Search.Search(soon(t), &searchv1.SearchRequest{Parent: CatalogName("shop"), Turns: turns, PageSize: -1})
	failed, _ := err.(*Error)
	if ReasonOf(err) != commonv1.ErrorReason_OUT_OF_RANGE || failed.Field != "page_size" || failed.RequestID == "" {
		t.Error(err)
	}
}

func TestNoneOfNoConditionsIsRefused(t *testing.T) {
	query := Query("shop", Turn(nil, "a dress"))
	query.Filter = All(Or())
	_, err := service(t).Search.Search(soon(t), query)
	var failed *Error
	if !errors.As(err, &failed) || failed.Code != codes.InvalidArgument || failed.Field != "filter.must[0]" {
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
	_, err = client.Catalogs.BatchUpsertItems(soon(t), &searchv1.BatchUpsertItemsRequest{
		Parent: CatalogName("shop"),
		Items:  []*searchv1.ItemWrite{{Item: item, Content: encoded}},
	})
	if err != nil {
		t.Fatal(err)
	}
	request := &searchv1.SearchRequest{
		Parent: CatalogName("shop"), Turns: []*searchv1.Turn{Turn(Item("written by Go"), "")},
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

// garments are the drawn images as items, from the first on; after `until` of them the source fails.
func garments(t *testing.T, until int) func(func(*searchv1.ItemWrite, error) bool) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(os.Getenv("CIR_TEST_IMAGES"), "*.jpg"))
	if err != nil || len(paths) != 15 {
		t.Fatal(paths, err)
	}
	return func(yield func(*searchv1.ItemWrite, error) bool) {
		for i, path := range paths {
			if i == until {
				yield(nil, errors.New("the source is gone"))
				return
			}
			encoded, err := os.ReadFile(path)
			payload, _ := Payload(map[string]any{"number": i})
			item := &searchv1.Item{Id: filepath.Base(path), Payload: payload}
			if i == 3 {
				encoded = []byte("no image")
			}
			if !yield(&searchv1.ItemWrite{Item: item, Content: encoded}, err) {
				return
			}
		}
	}
}

func TestACatalogIsMadeFromNothing(t *testing.T) {
	client := service(t)
	ctx := soon(t)
	schema := map[string]searchv1.FieldType{"number": searchv1.FieldType_FIELD_TYPE_INTEGER}
	request := &searchv1.CreateCatalogRequest{CatalogId: "made-by-go", Schema: schema}
	if _, err := client.Catalogs.CreateCatalog(ctx, request); err != nil {
		t.Fatal(err)
	}
	_, err := client.Catalogs.CreateCatalog(ctx, request)
	if status.Code(err) != codes.AlreadyExists || ReasonOf(err) != commonv1.ErrorReason_CATALOG_EXISTS {
		t.Error(err)
	}
	parent := CatalogName("made-by-go")
	version, err := client.Catalogs.CreateCatalogVersion(ctx, &searchv1.CreateCatalogVersionRequest{Parent: parent})
	if err != nil {
		t.Fatal(err)
	}
	// A program that breaks off, and one that goes on.
	options := ImportOptions{Token: "one", BatchItems: 2}
	if _, err := client.ImportItems(ctx, version.GetName(), garments(t, 6), options); err == nil || err.Error() != "the source is gone" {
		t.Fatal(err)
	}
	var answers int
	options.OnProgress = func(*Imported) { answers++ }
	done, err := client.ImportItems(ctx, version.GetName(), garments(t, -1), options)
	if err != nil {
		t.Fatal(err)
	}
	if done.Done != 15 || done.Written != 14 || done.Rejected != 1 || len(done.Errors) != 1 || answers == 0 {
		t.Error(done, answers)
	}
	if done.Errors[0].GetReason() != commonv1.ErrorReason_IMAGE_UNREADABLE || done.Errors[0].GetIndex() != 3 {
		t.Error(done.Errors)
	}
	count := uint64(14)
	finish := &searchv1.FinishCatalogVersionRequest{Name: version.GetName(), ExpectedItemCount: &count}
	if _, err := client.Catalogs.FinishCatalogVersion(ctx, finish); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Catalogs.PublishCatalogVersion(ctx, &searchv1.PublishCatalogVersionRequest{Name: version.GetName()}); err != nil {
		t.Fatal(err)
	}
	batch := &searchv1.BatchSearchRequest{Requests: []*searchv1.SearchRequest{
		{Parent: parent, Turns: []*searchv1.Turn{Turn(nil, "a dress")}, Filter: All(AtLeast("number", 5))},
		{Parent: CatalogName("missing"), Turns: []*searchv1.Turn{Turn(nil, "a dress")}},
	}}
	found, err := client.Search.BatchSearch(ctx, batch)
	if err != nil {
		t.Fatal(err)
	}
	first, second := found.GetOutcomes()[0].GetResponse(), found.GetOutcomes()[1].GetError()
	if len(first.GetResults()) != 10 || second.GetReason() != commonv1.ErrorReason_CATALOG_NOT_FOUND {
		t.Error(found)
	}
	_, err = client.ImportItems(ctx, version.GetName(), garments(t, -1), ImportOptions{})
	if ReasonOf(err) != commonv1.ErrorReason_VERSION_STATE {
		t.Error(err)
	}
}
