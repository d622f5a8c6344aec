// A thin wrapper of libpng that keeps `setjmp` out of Swift. Functions may run on any thread.
#ifndef CPNG_H
#define CPNG_H

#include <stddef.h>
#include <stdint.h>

#define CPNG_MESSAGE 256

/// The image after palettes are expanded and samples of few bits are widened.
typedef struct {
  int width, height;
  int channels;     // 1 or 3, without alpha
  int depth;        // 8 or 16
  int alpha;        // 1 if there is transparency
} cpng_info;

/// Reads the header. Returns 0, or -1 with a message. Refuses more pixels than `length` deflated bytes can hold.
int cpng_header(const uint8_t *bytes, size_t length, cpng_info *info, char *message);

/// Decodes to interleaved samples as `info` says (16-bit samples in native byte order). Transparency is blended onto
/// white. `samples` has room for width * height * channels * depth / 8 bytes. Returns 0, or -1 with a message.
int cpng_decode(const uint8_t *bytes, size_t length, const cpng_info *info, uint8_t *samples, char *message);

/// Encodes interleaved 8-bit samples of 1 or 3 channels into `bytes`, which has room for `*length` bytes, and sets
/// `*length` to the bytes written. With `bytes` NULL it only sets `*length` to an upper bound of the size. Returns 0,
/// or -1 with a message.
int cpng_encode(const uint8_t *samples, int width, int height, int channels, uint8_t *bytes, size_t *length,
                char *message);

#endif
