#define _GNU_SOURCE
#include "cjpeg.h"

#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

/// A Huffman-coded block takes at least one bit, so a byte holds at most 8 blocks. Arithmetic coding can be shorter on
/// flat images; its bound only stops absurd sizes.
#define BLOCKS_PER_BYTE 8
#define ARITHMETIC_BLOCKS_PER_BYTE 128
/// More scans than any encoder writes. Each scan costs a pass over the whole image.
#define MAX_SCANS 200

typedef struct {
  struct jpeg_error_mgr base;
  jmp_buf escape;
  char *message;
  int damaged;   // a warning says that the image is not whole
  int no_end;    // the file ends without an end marker
  int in_scan;   // the first scan has begun
} handler;

static void on_error(j_common_ptr cinfo) {
  handler *h = (handler *)cinfo->err;
  cinfo->err->format_message(cinfo, h->message);
  longjmp(h->escape, 1);
}

/// Sorts libjpeg's warnings. These are harmless: bytes between header segments, an unknown JFIF version or Adobe
/// transform, a broken colour profile (not used), and a missing end marker after a complete scan.
static void on_message(j_common_ptr cinfo, int level) {
  if (level >= 0) return;
  handler *h = (handler *)cinfo->err;
  switch (cinfo->err->msg_code) {
    case JWRN_JFIF_MAJOR: case JWRN_ADOBE_XFORM: case JWRN_BOGUS_ICC: return;
    case JWRN_EXTRANEOUS_DATA: if (!h->in_scan) return; break;
    case JWRN_JPEG_EOF: h->no_end = 1; return;
    default: break;
  }
  if (!h->damaged) cinfo->err->format_message(cinfo, h->message);
  h->damaged = 1;
}

static void on_progress(j_common_ptr cinfo) {
  if (cinfo->is_decompressor && ((j_decompress_ptr)cinfo)->input_scan_number > MAX_SCANS) {
    handler *h = (handler *)cinfo->err;
    snprintf(h->message, CJPEG_MESSAGE, "more than %d scans", MAX_SCANS);
    longjmp(h->escape, 1);
  }
}

static void prepare(struct jpeg_decompress_struct *cinfo, handler *h, char *message) {
  // JMSG_LENGTH_MAX is 200, so libjpeg's messages fit.
  memset(h, 0, sizeof *h);
  memset(cinfo, 0, sizeof *cinfo);
  cinfo->err = jpeg_std_error(&h->base);
  h->base.error_exit = on_error;
  h->base.emit_message = on_message;
  h->message = message;
  message[0] = 0;
}

/// Reads the header and refuses implausible sizes. Runs under the caller's `setjmp`.
static int read_header(struct jpeg_decompress_struct *cinfo, const uint8_t *bytes, size_t length, cjpeg_info *info,
                       char *message) {
  jpeg_create_decompress(cinfo);
  jpeg_mem_src(cinfo, bytes, (unsigned long)length);
  jpeg_read_header(cinfo, TRUE);
  memset(info, 0, sizeof *info);
  info->width = (int)cinfo->image_width;
  info->height = (int)cinfo->image_height;
  info->components = cinfo->num_components;
  info->progressive = cinfo->progressive_mode;
  switch (cinfo->jpeg_color_space) {
    case JCS_GRAYSCALE: info->colour = CJPEG_GREY; break;
    case JCS_RGB: info->colour = CJPEG_RGB; break;
    case JCS_YCbCr: info->colour = CJPEG_YCC; break;
    case JCS_CMYK: info->colour = CJPEG_CMYK; break;
    case JCS_YCCK: info->colour = CJPEG_YCCK; break;
    default: snprintf(message, CJPEG_MESSAGE, "%d components of unknown colour", cinfo->num_components); return -1;
  }
  for (int c = 0; c < cinfo->num_components; c++)
    info->blocks += (int64_t)cinfo->comp_info[c].width_in_blocks * cinfo->comp_info[c].height_in_blocks;
  int64_t most = (int64_t)length * (cinfo->arith_code ? ARITHMETIC_BLOCKS_PER_BYTE : BLOCKS_PER_BYTE);
  if (info->blocks > most) {
    snprintf(message, CJPEG_MESSAGE, "it claims %d x %d pixels, more than its %zu bytes can hold", info->width,
             info->height, length);
    return -1;
  }
  return 0;
}

int cjpeg_header(const uint8_t *bytes, size_t length, cjpeg_info *info, char *message) {
  struct jpeg_decompress_struct cinfo;
  handler h;
  prepare(&cinfo, &h, message);
  if (setjmp(h.escape)) {
    jpeg_destroy_decompress(&cinfo);
    return -1;
  }
  int status = read_header(&cinfo, bytes, length, info, message);
  jpeg_destroy_decompress(&cinfo);
  return status;
}

/// Four ink components to RGB or grey. Adobe stores inks inverted (255 is no ink).
static void mix_inks(const uint8_t *inks, int width, int inverted, int channels, uint8_t *out) {
  for (int x = 0; x < width; x++, inks += 4) {
    int light[4], rgb[3];
    for (int c = 0; c < 4; c++) light[c] = inverted ? inks[c] : 255 - inks[c];
    for (int c = 0; c < 3; c++) {
      // light * black / 255, computed as black - ink * black / 255 to round as other decoders do.
      int product = (255 - light[c]) * light[3] + 128;
      rgb[c] = light[3] - (((product >> 8) + product) >> 8);
    }
    if (channels == 3) for (int c = 0; c < 3; c++) *out++ = (uint8_t)rgb[c];
    else *out++ = (uint8_t)((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
  }
}

/// Whether the image is complete although the end marker is missing: its one scan held all components.
static int whole_without_end(const struct jpeg_decompress_struct *cinfo) {
  return !cinfo->progressive_mode && cinfo->comps_in_scan == cinfo->num_components;
}

static int choose_window(struct jpeg_decompress_struct *cinfo, int channels, cjpeg_window *window, size_t capacity,
                         char *message) {
  if (window->width == 0) {
    *window = (cjpeg_window){0, 0, (int)cinfo->output_width, (int)cinfo->output_height};
  } else if (window->width < (int)cinfo->output_width) {
    JDIMENSION x = (JDIMENSION)window->x, width = (JDIMENSION)window->width;
    jpeg_crop_scanline(cinfo, &x, &width);
    window->x = (int)x;
    window->width = (int)width;
  }
  if ((size_t)window->width * (size_t)window->height * (size_t)channels <= capacity) return 0;
  snprintf(message, CJPEG_MESSAGE, "no room for %d x %d pixels", window->width, window->height);
  return -1;
}

/// Decodes the window's rows. `inks` has room for one row of a four-component image; NULL for others.
static void read_rows(struct jpeg_decompress_struct *cinfo, const cjpeg_window *window, int channels, uint8_t *inks,
                      uint8_t *samples) {
  if (window->y > 0) jpeg_skip_scanlines(cinfo, (JDIMENSION)window->y);
  for (int y = 0; y < window->height; y++) {
    uint8_t *row = samples + (size_t)y * (size_t)window->width * (size_t)channels;
    JSAMPROW line = inks != NULL ? inks : row;
    jpeg_read_scanlines(cinfo, &line, 1);
    if (inks != NULL) mix_inks(inks, window->width, cinfo->saw_Adobe_marker, channels, row);
  }
  // Rows below the window are not decoded; a whole image is read to its end marker.
  if (cinfo->output_scanline == cinfo->output_height) jpeg_finish_decompress(cinfo);
}

int cjpeg_decode(const uint8_t *bytes, size_t length, int channels, int scale, cjpeg_window *window, uint8_t *samples,
                 size_t capacity, char *message) {
  struct jpeg_decompress_struct cinfo;
  struct jpeg_progress_mgr progress = {.progress_monitor = on_progress};
  handler h;
  cjpeg_info info;
  uint8_t *volatile inks = NULL;
  prepare(&cinfo, &h, message);
  if (setjmp(h.escape)) {
    jpeg_destroy_decompress(&cinfo);
    free(inks);
    return -1;
  }
  int status = read_header(&cinfo, bytes, length, &info, message);
  if (status == 0) {
    cinfo.progress = &progress;
    cinfo.scale_num = (unsigned)scale;
    cinfo.scale_denom = 8;
    cinfo.dct_method = JDCT_ISLOW;
    cinfo.out_color_space = info.components == 4 ? JCS_CMYK : channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
    h.in_scan = 1;
    jpeg_start_decompress(&cinfo);
    status = choose_window(&cinfo, channels, window, capacity, message);
    if (status == 0 && info.components == 4) {
      inks = malloc((size_t)window->width * 4);
      if (inks == NULL) {
        snprintf(message, CJPEG_MESSAGE, "no memory for a row of %d pixels", window->width);
        status = -1;
      }
    }
    if (status == 0) read_rows(&cinfo, window, channels, inks, samples);
  }
  if (status == 0 && h.no_end && !h.damaged && !whole_without_end(&cinfo)) {
    snprintf(message, CJPEG_MESSAGE, "it ends before its last scan");
    h.damaged = 1;
  }
  jpeg_destroy_decompress(&cinfo);
  free(inks);
  return status != 0 || h.damaged ? -1 : 0;
}
