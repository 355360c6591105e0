// Package dockerfile holds the Dockerfile against BuildKit, where no engine runs that could
// build it: its parser and its linter, and what each instruction does, executed in
// directories that stand for the images. A module of its own: BuildKit brings much along,
// which nobody should have to build for wfgen.
package dockerfile
