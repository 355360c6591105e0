// Package engines holds tests only: step against servers and proxies that nobody wrote
// for it. llama.cpp's own server alone and behind nginx in twelve settings, proxies that
// hold answers back before step simulate, and the real vLLM as it is, with speculative
// decoding, with two names, with prefix caching, and with fewer places than there are
// streams. What step takes is compared with what the server itself says, or refused by its
// cause. See docs/engines.md.
//
//	make test-engines
//
// llama.cpp and nginx are started by the scripts of ../shared/servers, and their tests
// are skipped where those, or nginx, are not there.
package engines
