// Package argoevents holds examples/triggers against Argo Events: its types, and what its
// sensor does with an event. A module of its own: Argo Events brings much along, which
// nobody should have to build for wfgen.
package argoevents
