package cql2_test

import (
	"fmt"

	"cairn/query/ogc/cql2"
)

// A filter as text, and one that is wrong: the error says where.
func ExampleParseText() {
	n, err := cql2.ParseText(`mag > 5 AND name LIKE 'Par%'`)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, arg := range n.Args {
		fmt.Println(n.Text, arg.Text, arg.Args[0].Text)
	}
	_, err = cql2.ParseText(`mag > `)
	fmt.Println(err)
	// Output:
	// and > mag
	// and like name
	// at character 7: the end is not expected here, but a property or a value
}
