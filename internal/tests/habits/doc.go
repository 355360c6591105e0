// Package habits holds tests of step against servers that answer as real ones do and as
// no documentation says: each with one habit, taken from what people reported of servers,
// gateways and proxies, and with two at random. The truth of every number is known, since
// the servers sleep through it: what step takes is within ten per cent of it, or step
// refuses to take it and names the cause.
package habits
