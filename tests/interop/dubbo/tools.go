//go:build tools

// The generator, so that go.mod pins it as well.
package main

import (
	_ "google.golang.org/protobuf/cmd/protoc-gen-go"
)
