// Makes a catalog of a folder of images, without anything on this machine but this program:
//
//	go run ./examples/catalog -catalog shop images/
//
// Each image becomes an item whose id is its path in the folder, with the field "folder". Where the catalog exists, the
// folder becomes its next version. A run that was stopped goes on where it was when it is started again: the version
// that is being built stands in a file meanwhile. The folder has to stay as it is until then.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cir "composed-image-retrieval/clients/go"
	commonv1 "composed-image-retrieval/clients/go/gen/cir/common/v1"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

var endings = []string{".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}

func main() {
	server := flag.String("server", "localhost:50050", "address of the search service")
	catalog := flag.String("catalog", "shop", "catalog to make, or to make a new version of")
	state := flag.String("state", "", "file with the version that is being built (default CATALOG.import)")
	flag.Parse()
	if flag.NArg() != 1 {
		log.Fatal("say which folder: catalog [flags] FOLDER")
	}
	client, err := cir.Dial(*server, cir.WithKey(os.Getenv("CIR_API_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if *state == "" {
		*state = *catalog + ".import"
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	build := building{client: client, catalog: *catalog, folder: flag.Arg(0), state: *state, progress: printing()}
	if err := build.run(ctx); err != nil {
		log.Fatal(err)
	}
}

// building is one run.
type building struct {
	client                 *cir.Client
	catalog, folder, state string
	progress               func(done, of uint64)
}

func (b *building) run(ctx context.Context) error {
	paths, err := images(b.folder)
	if err != nil {
		return err
	}
	version, err := b.version(ctx)
	if err != nil {
		return err
	}
	imported, err := b.client.ImportItems(ctx, version, items(b.folder, paths), cir.ImportOptions{
		Token:      token(version, paths),
		OnProgress: func(so *cir.Imported) { b.progress(so.Done, uint64(len(paths))) },
	})
	switch cir.ReasonOf(err) {
	case commonv1.ErrorReason_VERSION_STATE, commonv1.ErrorReason_VERSION_NOT_FOUND:
		return fmt.Errorf("%w; delete %s to begin anew", err, b.state)
	}
	if err != nil {
		return fmt.Errorf("%w; start again to go on", err)
	}
	for _, failed := range imported.Errors {
		log.Printf("%s left out: %s", failed.GetItemId(), failed.GetMessage())
	}
	// Indexes are built in here.
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	finish := &searchv1.FinishCatalogVersionRequest{Name: version, ExpectedItemCount: &imported.Written}
	if _, err := b.client.Catalogs.FinishCatalogVersion(ctx, finish); err != nil {
		return err
	}
	publish := &searchv1.PublishCatalogVersionRequest{Name: version}
	if _, err := b.client.Catalogs.PublishCatalogVersion(ctx, publish); err != nil {
		return err
	}
	fmt.Printf("%s is published: %d items, %d left out\n", version, imported.Written, imported.Rejected)
	return os.Remove(b.state)
}

// version is the version that is being built: that of the run before where it did not end, else a new one.
func (b *building) version(ctx context.Context) (string, error) {
	kept, err := os.ReadFile(b.state)
	if err == nil {
		return strings.TrimSpace(string(kept)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	schema := map[string]searchv1.FieldType{"folder": searchv1.FieldType_FIELD_TYPE_KEYWORD}
	create := &searchv1.CreateCatalogRequest{CatalogId: b.catalog, Schema: schema}
	_, err = b.client.Catalogs.CreateCatalog(ctx, create)
	if err != nil && cir.ReasonOf(err) != commonv1.ErrorReason_CATALOG_EXISTS {
		return "", err
	}
	begin := &searchv1.CreateCatalogVersionRequest{Parent: cir.CatalogName(b.catalog), Schema: schema}
	version, err := b.client.Catalogs.CreateCatalogVersion(ctx, begin)
	if err != nil {
		return "", err
	}
	return version.GetName(), os.WriteFile(b.state, []byte(version.GetName()+"\n"), 0o644)
}

// images are the image files below a folder by their paths in it, always in the same order.
func images(folder string) (paths []string, err error) {
	err = filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.Contains(endings, strings.ToLower(filepath.Ext(path))) {
			return err
		}
		inside, err := filepath.Rel(folder, path)
		paths = append(paths, inside)
		return err
	})
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("no images below %s", folder)
	}
	return paths, err
}

// items are the images as the service takes them. A file that cannot be read goes as an image without bytes, which the
// service rejects, so that the places of the others stay.
func items(folder string, paths []string) iter.Seq2[*searchv1.ItemWrite, error] {
	return func(yield func(*searchv1.ItemWrite, error) bool) {
		for _, path := range paths {
			encoded, err := os.ReadFile(filepath.Join(folder, path))
			if err != nil {
				log.Print(err)
			}
			payload, err := cir.Payload(map[string]any{"folder": filepath.ToSlash(filepath.Dir(path))})
			item := &searchv1.Item{Id: filepath.ToSlash(path), Payload: payload, Image: path}
			if !yield(&searchv1.ItemWrite{Item: item, Content: encoded}, err) {
				return
			}
		}
	}
}

// token names the import of these files into a version.
func token(version string, paths []string) string {
	sum := sha256.Sum256([]byte(version + "\n" + strings.Join(paths, "\n")))
	return hex.EncodeToString(sum[:16])
}

// printing shows progress once a second.
func printing() func(done, of uint64) {
	var first uint64
	var begun, shown time.Time
	return func(done, of uint64) {
		now := time.Now()
		if begun.IsZero() {
			begun, first = now, done
			if done > 0 {
				fmt.Printf("going on at %d\n", done)
			}
		}
		if now.Sub(shown) >= time.Second || done == of {
			fmt.Printf("%d of %d, %.0f images/s\n", done, of, float64(done-first)/max(now.Sub(begun).Seconds(), 1e-3))
			shown = now
		}
	}
}
