// Package loadtools runs the load generators whose files step reads, as installed from
// the Python package index, against step simulate, and compares the parameters from
// their files with the law of the server: make test-loadtools.
package loadtools
