package parameters

import "testing"

func TestShortened(t *testing.T) {
	long := "NVIDIA-A100-PCIE-40GB-MIG-3g.20gb"
	short := Shortened([]string{"A100", long, "exactly-ten", "twins-of-a-kind-1-x", "twins-of-a-kind-2-x", "äöü-äöü-äöü-äöü"}, 11)
	for name, want := range map[string]string{
		"A100": "A100", "exactly-ten": "exactly-ten", long: "NVIDI….20gb", "äöü-äöü-äöü-äöü": "äöü-ä…ü-äöü",
		"twins-of-a-kind-1-x": "twins…d-1-x", "twins-of-a-kind-2-x": "twins…d-2-x",
	} {
		if got := short(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	alike := Shortened([]string{"begin-one-the-end", "begin-two-the-end"}, 11)
	if got := alike("begin-one-the-end"); got != "begin-one-the-end" {
		t.Errorf("one of two that would be alike: %s", got)
	}
}
