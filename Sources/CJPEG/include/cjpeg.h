// A thin wrapper of libjpeg (libjpeg-turbo) that keeps `setjmp` out of Swift. Functions may run on any thread.
#ifndef CJPEG_H
#define CJPEG_H

#include <stddef.h>
#include <stdint.h>

#define CJPEG_MESSAGE 256

enum { CJPEG_GREY = 1, CJPEG_RGB = 2, CJPEG_YCC = 3, CJPEG_CMYK = 4, CJPEG_YCCK = 5 };

/// Contents of the header.
typedef struct {
  int width, height;   // as stored, before any orientation
  int components;      // 1, 3 or 4
  int colour;          // one of the enum above
  int progressive;
  int64_t blocks;      // 8x8 blocks of all components
} cjpeg_info;

/// A window of the scaled image, in stored orientation.
typedef struct {
  int x, y, width, height;
} cjpeg_window;

/// Reads the header. Returns 0, or -1 with a message. Refuses more blocks than `length` bytes can encode.
int cjpeg_header(const uint8_t *bytes, size_t length, cjpeg_info *info, char *message);

/// Decodes to interleaved 8-bit samples.
/// - channels: 1 (grey) or 3 (RGB), independent of what is stored.
/// - scale: M of libjpeg's scale M/8, 1 to 8.
/// - window: the wanted part of the scaled image (all of it if the width is 0). On return the decoded part, which is
///   wider if the left edge is not on a block boundary.
/// - samples: room for `capacity` bytes; rows are stored without padding.
/// Returns 0, or -1 with a message. Damage that libjpeg only warns of is an error, unless the image is still whole.
int cjpeg_decode(const uint8_t *bytes, size_t length, int channels, int scale, cjpeg_window *window, uint8_t *samples,
                 size_t capacity, char *message);

/// Size of the scaled image.
static inline int cjpeg_scaled(int size, int scale) { return (int)(((int64_t)size * scale + 7) / 8); }

#endif
