package manifest

// Object is one Kubernetes object and the file that it belongs into.
type Object struct {
	File     string
	Value    any
	Comments []Comment
	// Example objects hold placeholders for a user to fill in. Applying one as it is
	// would overwrite the real one, so nothing applies them by itself.
	Example bool
}
