#include "cpng.h"

#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/// Deflate compresses at most 1032 bytes into one.
#define DEFLATE_LIMIT 1032
/// Largest ancillary chunk, in bytes. Texts and profiles are not used.
#define CHUNK_LIMIT 8000000

typedef struct {
  const uint8_t *bytes;
  size_t length, position;
} source;

typedef struct {
  png_structp png;
  png_infop info;
  source source;
} reader;

static void pull(png_structp png, png_bytep out, size_t count) {
  source *s = png_get_io_ptr(png);
  if (count > s->length - s->position) png_error(png, "the file ends too early");
  memcpy(out, s->bytes + s->position, count);
  s->position += count;
}

static void on_error(png_structp png, png_const_charp text) {
  snprintf(png_get_error_ptr(png), CPNG_MESSAGE, "%s", text);
  png_longjmp(png, 1);
}

/// Ignored: libpng warns only of chunks that are not used here (profiles, dates). Damaged pixels are errors.
static void on_warning(png_structp png, png_const_charp text) { (void)png, (void)text; }

static int begin(reader *r, const uint8_t *bytes, size_t length, char *message) {
  message[0] = 0;
  r->source = (source){bytes, length, 0};
  r->info = NULL;
  r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, message, on_error, on_warning);
  if (r->png != NULL) r->info = png_create_info_struct(r->png);
  if (r->info != NULL) return 0;
  png_destroy_read_struct(&r->png, NULL, NULL);
  snprintf(message, CPNG_MESSAGE, "libpng does not start");
  return -1;
}

/// Runs under the caller's `setjmp`.
static int read_header(reader *r, cpng_info *info, char *message) {
  png_set_read_fn(r->png, &r->source, pull);
  png_set_chunk_malloc_max(r->png, CHUNK_LIMIT);
  png_set_crc_action(r->png, PNG_CRC_ERROR_QUIT, PNG_CRC_WARN_DISCARD);
  png_read_info(r->png, r->info);
  int colour = png_get_color_type(r->png, r->info), depth = png_get_bit_depth(r->png, r->info);
  info->width = (int)png_get_image_width(r->png, r->info);
  info->height = (int)png_get_image_height(r->png, r->info);
  info->channels = colour & PNG_COLOR_MASK_COLOR ? 3 : 1;
  info->depth = depth == 16 ? 16 : 8;
  info->alpha = (colour & PNG_COLOR_MASK_ALPHA) != 0 || png_get_valid(r->png, r->info, PNG_INFO_tRNS) != 0;
  size_t stored = png_get_rowbytes(r->png, r->info);
  if (stored * (size_t)info->height / DEFLATE_LIMIT > r->source.length) {
    snprintf(message, CPNG_MESSAGE, "it claims %d x %d pixels, more than its %zu bytes can hold", info->width,
             info->height, r->source.length);
    return -1;
  }
  return 0;
}

int cpng_header(const uint8_t *bytes, size_t length, cpng_info *info, char *message) {
  reader r;
  if (begin(&r, bytes, length, message) != 0) return -1;
  if (setjmp(png_jmpbuf(r.png))) {
    png_destroy_read_struct(&r.png, &r.info, NULL);
    return -1;
  }
  int status = read_header(&r, info, message);
  png_destroy_read_struct(&r.png, &r.info, NULL);
  return status;
}

/// Blends one row onto white and removes its alpha, in place.
static void blend8(uint8_t *row, int width, int channels) {
  uint8_t *out = row;
  for (int x = 0; x < width; x++, row += channels + 1) {
    unsigned alpha = row[channels];
    for (int c = 0; c < channels; c++) *out++ = (uint8_t)((row[c] * alpha + 255 * (255 - alpha) + 127) / 255);
  }
}

static void blend16(uint16_t *row, int width, int channels) {
  uint16_t *out = row;
  for (int x = 0; x < width; x++, row += channels + 1) {
    uint64_t alpha = row[channels];
    for (int c = 0; c < channels; c++)
      *out++ = (uint16_t)((row[c] * alpha + 65535 * (65535 - alpha) + 32767) / 65535);
  }
}

/// Runs under the caller's `setjmp`. A pixel of `image` has channels + alpha samples.
static void read_rows(reader *r, const cpng_info *info, uint8_t *image, png_bytep *rows) {
  png_set_expand(r->png);  // palettes, few-bit grey, tRNS to alpha
  if (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__) png_set_swap(r->png);
  png_set_interlace_handling(r->png);
  png_read_update_info(r->png, r->info);
  size_t pitch = (size_t)info->width * (size_t)(info->channels + info->alpha) * (size_t)(info->depth / 8);
  if (png_get_rowbytes(r->png, r->info) != pitch) png_error(r->png, "its rows are not as long as its header says");
  for (int y = 0; y < info->height; y++) rows[y] = image + (size_t)y * pitch;
  png_read_image(r->png, rows);
  png_read_end(r->png, NULL);
}

int cpng_decode(const uint8_t *bytes, size_t length, const cpng_info *info, uint8_t *samples, char *message) {
  reader r;
  cpng_info found;
  size_t row = (size_t)info->width * (size_t)info->channels * (size_t)(info->depth / 8);
  size_t pitch = (size_t)info->width * (size_t)(info->channels + info->alpha) * (size_t)(info->depth / 8);
  if (begin(&r, bytes, length, message) != 0) return -1;
  uint8_t *image = info->alpha ? malloc(pitch * (size_t)info->height) : samples;
  png_bytep *rows = malloc(sizeof *rows * (size_t)info->height);
  if (image == NULL || rows == NULL || setjmp(png_jmpbuf(r.png))) {
    png_destroy_read_struct(&r.png, &r.info, NULL);
    if (info->alpha) free(image);
    free(rows);
    return -1;
  }
  int status = read_header(&r, &found, message);
  if (status == 0 && memcmp(&found, info, sizeof found) != 0) status = -1;
  if (status == 0) read_rows(&r, info, image, rows);
  for (int y = 0; status == 0 && info->alpha && y < info->height; y++) {
    if (info->depth == 8) blend8(rows[y], info->width, info->channels);
    else blend16((uint16_t *)rows[y], info->width, info->channels);
    memcpy(samples + (size_t)y * row, rows[y], row);
  }
  png_destroy_read_struct(&r.png, &r.info, NULL);
  if (info->alpha) free(image);
  free(rows);
  return status;
}

int cpng_encode(const uint8_t *samples, int width, int height, int channels, uint8_t *bytes, size_t *length,
                char *message) {
  png_image image;
  memset(&image, 0, sizeof image);
  image.version = PNG_IMAGE_VERSION;
  image.width = (png_uint_32)width;
  image.height = (png_uint_32)height;
  image.format = channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB;
  if (bytes == NULL) {
    *length = PNG_IMAGE_PNG_SIZE_MAX(image);
    return 0;
  }
  png_alloc_size_t size = *length;
  int written = png_image_write_to_memory(&image, bytes, &size, 0, samples, 0, NULL);
  if (written == 0) snprintf(message, CPNG_MESSAGE, "%s", image.message);
  *length = size;
  png_image_free(&image);
  return written == 0 ? -1 : 0;
}
