#include "czlib.h"

#include <zlib.h>

uint32_t czlib_crc32(uint32_t crc, const void *bytes, size_t count) {
  return (uint32_t)crc32_z(crc, bytes, count);
}

void *czlib_open(const char *path) { return gzopen(path, "rb"); }

int64_t czlib_read(void *file, void *bytes, size_t count) {
  size_t step = count > (1u << 30) ? (1u << 30) : count;
  int got = gzread(file, bytes, (unsigned)step);
  if (got < 0) return -1;
  int code;
  gzerror(file, &code);  // a stream that ends too early is only told here
  return got == 0 && code != Z_OK && code != Z_STREAM_END ? -1 : got;
}

const char *czlib_message(void *file) {
  int code;
  return gzerror(file, &code);
}

void czlib_close(void *file) { gzclose(file); }
