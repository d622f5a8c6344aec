// A narrow waist around zlib: checksums and reading gzip files.
#ifndef CZLIB_H
#define CZLIB_H

#include <stddef.h>
#include <stdint.h>

/// CRC-32 of the bytes, going on from `crc` (0 at the start).
uint32_t czlib_crc32(uint32_t crc, const void *bytes, size_t count);

/// Opens a file to read, gzipped or plain. NULL with `errno` set where it cannot.
void *czlib_open(const char *path);
/// Reads up to `count` bytes of the decompressed stream. Returns how many, or -1 where the stream is damaged.
int64_t czlib_read(void *file, void *bytes, size_t count);
/// What went wrong last.
const char *czlib_message(void *file);
void czlib_close(void *file);

#endif
