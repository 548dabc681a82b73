package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	cir "composed-image-retrieval/clients/go"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

// Against the service of `make test-clients`, with the 15 images that it has drawn.
func TestARunThatWasStoppedGoesOn(t *testing.T) {
	address, folder := os.Getenv("CIR_TEST_SERVER"), t.TempDir()
	if address == "" {
		t.Skip("no service: CIR_TEST_SERVER is not set; make test-clients starts one")
	}
	if err := os.CopyFS(filepath.Join(folder, "drawn"), os.DirFS(os.Getenv("CIR_TEST_IMAGES"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "broken.jpg"), []byte("no image"), 0o644); err != nil {
		t.Fatal(err)
	}
	client, err := cir.Dial(address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	state := filepath.Join(t.TempDir(), "state")
	stopped, stop := context.WithCancel(ctx)
	build := building{client: client, catalog: "folder-of-go", folder: folder, state: state}
	build.progress = func(uint64, uint64) { stop() }
	if err := build.run(stopped); !errors.Is(err, context.Canceled) && stopped.Err() == nil {
		t.Fatal(err)
	}
	kept, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	var last, all uint64
	build.progress = func(done, of uint64) { last, all = done, of }
	if err := build.run(ctx); err != nil {
		t.Fatal(err)
	}
	if last != 16 || all != 16 {
		t.Errorf("%d of %d", last, all)
	}
	found, err := client.Catalogs.GetCatalog(ctx, &searchv1.GetCatalogRequest{Name: cir.CatalogName("folder-of-go")})
	if err != nil {
		t.Fatal(err)
	}
	if published := found.GetPublished(); published.GetItemCount() != 15 || published.GetName()+"\n" != string(kept) {
		t.Error(published)
	}
	answer, err := client.Search.Search(ctx, cir.Query("folder-of-go", cir.Turn(nil, "a green dress")))
	if err != nil || answer.GetResults()[0].GetItem().GetId() != "drawn/green-dress.jpg" {
		t.Error(answer, err)
	}
	if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
