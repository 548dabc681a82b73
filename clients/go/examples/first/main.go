// Finds garments like the one on an image, first in blue, then with stripes, that cost less than 80.
package main

import (
	"context"
	"fmt"
	"log"

	cir "composed-image-retrieval/clients/go"
)

func main() {
	client, err := cir.Dial("localhost:50050")
	if err != nil {
		log.Fatal(err)
	}
	image, err := cir.ImageFile("dress.jpg")
	if err != nil {
		log.Fatal(err)
	}
	query := cir.Query("shop", cir.Turn(image, "in blue"), cir.Turn(nil, "with stripes"))
	query.Filter = cir.All(cir.Equal("kind", "dress"), cir.Below("price", 80.0))
	answer, err := client.Search.Search(context.Background(), query)
	if err != nil {
		log.Fatal(err)
	}
	for _, result := range answer.GetResults() {
		fmt.Println(result.GetRank(), result.GetItem().GetId(), cir.Fields(result.GetItem().GetPayload())["price"])
	}
}
