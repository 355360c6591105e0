// Package store reads and writes the files of a run in a directory or in an S3
// bucket, with the same names in both.
package store

import (
	"context"
	"io"
)

// Store holds objects under slash-separated keys.
type Store interface {
	// Put writes an object whole or not at all.
	Put(ctx context.Context, key string, r io.Reader) error
	// Open reads an object; errors.Is(err, fs.ErrNotExist) tells that it is not there.
	Open(ctx context.Context, key string) (io.ReadCloser, error)
	// List returns the keys that lie under prefix, sorted, relative to the store.
	List(ctx context.Context, prefix string) ([]string, error)
	// String is where the store is, as the user wrote it.
	String() string
}
