//go:build !linux

package simulate

func newAlarm() (alarm, error) { return newTimer(), nil }
