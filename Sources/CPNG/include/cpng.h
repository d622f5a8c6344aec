// A narrow waist around libpng: `setjmp` stays in here. Every function may run on any thread.
#ifndef CPNG_H
#define CPNG_H

#include <stddef.h>
#include <stdint.h>

#define CPNG_MESSAGE 256

/// What the picture is once palettes are looked up and few-bit samples are widened.
typedef struct {
  int width, height;
  int channels;     // 1 or 3; transparency is not one of them
  int depth;        // 8 or 16
  int alpha;        // 1 where there is transparency
} cpng_info;

/// Reads the header. Returns 0, or -1 with a message. Refuses more pixels than `length` deflated bytes can hold.
int cpng_header(const uint8_t *bytes, size_t length, cpng_info *info, char *message);

/// Decodes all to interleaved samples of `info` (16-bit ones in the machine's order), blended on white where there is
/// transparency. `samples` has room for width * height * channels * depth / 8 bytes.
int cpng_decode(const uint8_t *bytes, size_t length, const cpng_info *info, uint8_t *samples, char *message);

/// Encodes 8-bit samples of 1 or 3 channels, row by row, into `bytes`, which has room for `*length`; where `bytes` is
/// NULL only the room that is needed is said. `*length` is then what was written. Returns 0, or -1 with a message.
int cpng_encode(const uint8_t *samples, int width, int height, int channels, uint8_t *bytes, size_t *length,
                char *message);

#endif
