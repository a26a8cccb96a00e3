/** Ends as a process does in which ggml's assertions fail. */
process.stderr.write(`ggml_cuda_init: found 1 CUDA devices
${process.argv[2]} error: the provided PTX was compiled with an unsupported toolchain.
  current device: 0
`);
process.abort();
