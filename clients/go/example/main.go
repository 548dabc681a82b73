// Finds garments like the one on an image, first in blue, then with stripes, that cost less than 80.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	cir "composed-image-retrieval/clients/go"
	searchv1 "composed-image-retrieval/clients/go/gen/cir/search/v1"
)

func main() {
	client, err := cir.Dial("localhost:50050", cir.WithKey(os.Getenv("CIR_API_KEY")))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	image, err := cir.ImageFile("dress.jpg")
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	answer, err := client.Search.Search(ctx, &searchv1.SearchRequest{
		Catalog: cir.CatalogName("shop"),
		Turns:   []*searchv1.Turn{cir.Turn(image, "in blue"), cir.Turn(nil, "with stripes")},
		Filter:  cir.All(cir.Equal("kind", "dress"), cir.Below("price", 80.0)),
		Limit:   5,
	})
	var failed *cir.Error
	if errors.As(err, &failed) {
		log.Fatalf("%s (%s %s): %s", failed.Code, failed.Reason, failed.Field, failed.Message)
	}
	for _, result := range answer.GetResults() {
		fmt.Println(result.GetRank(), result.GetItem().GetId(), cir.Fields(result.GetItem().GetPayload())["price"])
	}
}
