// Package vllm holds tests only: step against the real vLLM, built for CPUs, with
// a tiny Llama of invented weights. It is a real engine, with continuous batching,
// chunked prefill, queues and metrics, so it shows what no simulator can; its
// absolute times mean nothing. See docs/vllm.md.
//
//	make test-vllm
package vllm
