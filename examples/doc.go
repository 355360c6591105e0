// Package examples holds what wfgen writes, to the letter, for users to apply as it is.
package examples

//go:generate go test . -run ^TestExamples$ -count 1 -update
