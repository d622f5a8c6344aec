#include "czlib.h"

#include <zlib.h>

uint32_t czlib_crc32(uint32_t crc, const void *bytes, size_t count) {
  return (uint32_t)crc32_z(crc, bytes, count);
}

void *czlib_open(const char *path) { return gzopen(path, "rb"); }

int64_t czlib_read(void *file, void *bytes, size_t count) {
  size_t done = 0;
  while (done < count) {
    size_t left = count - done;
    int got = gzread(file, (char *)bytes + done, left > (1u << 30) ? (1u << 30) : (unsigned)left);
    int code;
    gzerror(file, &code);  // the only sign of a stream that ends too early
    if (got < 0 || (got == 0 && code != Z_OK && code != Z_STREAM_END)) return -1;
    if (got == 0) break;
    done += (size_t)got;
  }
  return (int64_t)done;
}

const char *czlib_message(void *file) {
  int code;
  return gzerror(file, &code);
}

void czlib_close(void *file) { gzclose(file); }
