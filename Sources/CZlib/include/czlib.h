// A thin wrapper of zlib: checksums and reading gzip files.
#ifndef CZLIB_H
#define CZLIB_H

#include <stddef.h>
#include <stdint.h>

/// CRC-32 of the bytes, continued from `crc` (0 at the start).
uint32_t czlib_crc32(uint32_t crc, const void *bytes, size_t count);

/// Opens a gzipped or plain file for reading. NULL with `errno` set on failure.
void *czlib_open(const char *path);
/// Reads up to `count` decompressed bytes. Returns their number, or -1 if the stream is damaged.
int64_t czlib_read(void *file, void *bytes, size_t count);
/// Message of the last error.
const char *czlib_message(void *file);
void czlib_close(void *file);

#endif
