#define _GNU_SOURCE
#include "chdf5.h"

#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// MARK: Errors

typedef struct {
  char first[200], last[200];
  char system[100];  // the operating system's message, such as "No space left on device"
} trace;

static herr_t collect(unsigned n, const H5E_error2_t *error, void *data) {
  trace *t = data;
  if (error->desc == NULL) return 0;
  if (n == 0) snprintf(t->first, sizeof t->first, "%s", error->desc);
  snprintf(t->last, sizeof t->last, "%s", error->desc);
  const char *words = strstr(error->desc, "error message = '");
  if (words != NULL && t->system[0] == 0) {
    snprintf(t->system, sizeof t->system, "%s", words + strlen("error message = '"));
    char *end = strchr(t->system, '\'');
    if (end != NULL) *end = 0;
  }
  return 0;
}

/// Writes a message of the library's innermost and outermost error, or of the operating system's. Returns -1.
static int failed(const char *what, char *message) {
  trace t = {"", "", ""};
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, collect, &t);
  H5Eclear2(H5E_DEFAULT);
  if (t.system[0] != 0) snprintf(message, CHDF5_MESSAGE, "%s: %s", what, t.system);
  else if (t.first[0] == 0) snprintf(message, CHDF5_MESSAGE, "%s", what);
  else if (strcmp(t.first, t.last) == 0) snprintf(message, CHDF5_MESSAGE, "%s: %s", what, t.first);
  else snprintf(message, CHDF5_MESSAGE, "%s: %s (%s)", what, t.last, t.first);
  return -1;
}

static int refused(const char *what, char *message) {
  snprintf(message, CHDF5_MESSAGE, "%s", what);
  return -1;
}

static int start(char *message) {
  static int started = 0;
  if (started) return 0;
  // A lock may outlive a crashed writer, and many cluster file systems do not support locks.
  setenv("HDF5_USE_FILE_LOCKING", "FALSE", 1);
  if (H5open() < 0) return refused("the HDF5 library does not start", message);
  started = 1;
  return 0;
}

void chdf5_quiet(void) { H5Eset_auto2(H5E_DEFAULT, NULL, NULL); }

// MARK: Types

/// The type in the file, little-endian on every machine. The caller closes it.
static hid_t file_type(int type, int64_t element) {
  switch (type) {
    case CHDF5_FLOAT: return H5Tcopy(H5T_IEEE_F32LE);
    case CHDF5_DOUBLE: return H5Tcopy(H5T_IEEE_F64LE);
    case CHDF5_INT8: return H5Tcopy(H5T_STD_I8LE);
    case CHDF5_UINT8: return H5Tcopy(H5T_STD_U8LE);
    case CHDF5_UINT16: return H5Tcopy(H5T_STD_U16LE);
    case CHDF5_INT32: return H5Tcopy(H5T_STD_I32LE);
    case CHDF5_UINT32: return H5Tcopy(H5T_STD_U32LE);
    case CHDF5_INT64: return H5Tcopy(H5T_STD_I64LE);
    case CHDF5_UINT64: return H5Tcopy(H5T_STD_U64LE);
    case CHDF5_TEXT: {
      hid_t text = H5Tcopy(H5T_C_S1);
      H5Tset_size(text, (size_t)(element > 0 ? element : 1));
      H5Tset_strpad(text, H5T_STR_NULLPAD);
      H5Tset_cset(text, H5T_CSET_UTF8);
      return text;
    }
    default: return -1;
  }
}

static hid_t memory_type(int type, int64_t element) {
  hid_t stored = file_type(type, element);
  if (type == CHDF5_TEXT || stored < 0) return stored;
  hid_t native = H5Tget_native_type(stored, H5T_DIR_DEFAULT);
  H5Tclose(stored);
  return native;
}

static int type_code(hid_t type) {
  if (H5Tget_class(type) == H5T_STRING) return H5Tis_variable_str(type) > 0 ? CHDF5_OTHER : CHDF5_TEXT;
  for (int code = CHDF5_FLOAT; code <= CHDF5_UINT64; code++) {
    hid_t known = file_type(code, 0);
    int same = H5Tequal(type, known) > 0 || (code == CHDF5_INT8 && H5Tequal(type, H5T_STD_I8BE) > 0) ||
               (code == CHDF5_UINT8 && H5Tequal(type, H5T_STD_U8BE) > 0);
    H5Tclose(known);
    if (same) return code;
  }
  return CHDF5_OTHER;
}

static int describe(hid_t type, hid_t space, chdf5_info *info, char *message) {
  memset(info, 0, sizeof *info);
  info->offset = -1;
  info->type = type_code(type);
  info->element = (int64_t)H5Tget_size(type);
  H5S_class_t kind = H5Sget_simple_extent_type(space);
  if (kind != H5S_SIMPLE && kind != H5S_SCALAR) return refused("it has no simple extent", message);
  info->rank = H5Sget_simple_extent_ndims(space);
  if (info->rank < 0 || info->rank > CHDF5_MAX_RANK) return refused("it has too many dimensions", message);
  hsize_t shape[CHDF5_MAX_RANK] = {0};
  if (H5Sget_simple_extent_dims(space, shape, NULL) < 0) return failed("its shape cannot be read", message);
  info->count = 1;
  for (int i = 0; i < info->rank; i++) {
    int64_t size = (int64_t)shape[i];
    if (size < 0 || __builtin_mul_overflow(info->count, size, &info->count))
      return refused("its shape is absurdly large", message);
    info->shape[i] = size;
  }
  return 0;
}

// MARK: Files

int64_t chdf5_open(const char *path, int mode, int64_t alignment, char *message) {
  if (start(message) != 0) return -1;
  hid_t access = H5Pcreate(H5P_FILE_ACCESS);
  // Closing the file also closes objects that failed calls left open.
  H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
  if (alignment > 1) H5Pset_alignment(access, 1, (hsize_t)alignment);
  hid_t file = mode == CHDF5_CREATE ? H5Fcreate(path, H5F_ACC_EXCL, H5P_DEFAULT, access)
                                    : H5Fopen(path, mode == CHDF5_UPDATE ? H5F_ACC_RDWR : H5F_ACC_RDONLY, access);
  // Before the next call, which clears the library's error stack.
  if (file < 0) failed(mode == CHDF5_CREATE ? "it cannot be created" : "it cannot be opened", message);
  H5Pclose(access);
  return (int64_t)file;
}

int chdf5_close(int64_t file, char *message) {
  herr_t flushed = H5Fflush((hid_t)file, H5F_SCOPE_LOCAL);
  if (flushed < 0) failed("its last bytes cannot be written", message);
  if (H5Fclose((hid_t)file) < 0 && flushed >= 0) return failed("it cannot be closed", message);
  return flushed < 0 ? -1 : 0;
}

/// Whether every link of the path is a hard link; an external link would read another file.
static int plain_links(hid_t file, const char *name) {
  char part[1024];
  size_t length = strlen(name);
  if (length >= sizeof part) return 0;
  for (size_t end = 1; end <= length; end++) {
    if (end < length && name[end] != '/') continue;
    memcpy(part, name, end);
    part[end] = 0;
    if (strcmp(part, "/") == 0) continue;
    H5L_info_t link;
    if (H5Lget_info(file, part, &link, H5P_DEFAULT) < 0 || link.type != H5L_TYPE_HARD) {
      H5Eclear2(H5E_DEFAULT);
      return 0;
    }
  }
  return 1;
}

// MARK: Datasets

int chdf5_write(int64_t file, const char *name, int type, int64_t element, int rank, const int64_t *shape,
                const void *values, char *message) {
  hsize_t extent[CHDF5_MAX_RANK];
  hsize_t count = 1;
  if (rank > CHDF5_MAX_RANK) return refused("it has too many dimensions", message);
  for (int i = 0; i < rank; i++) count *= extent[i] = (hsize_t)shape[i];
  hid_t stored = file_type(type, element), native = memory_type(type, element);
  hid_t space = rank == 0 ? H5Screate(H5S_SCALAR) : H5Screate_simple(rank, extent, NULL);
  hid_t creation = H5Pcreate(H5P_DATASET_CREATE), links = H5Pcreate(H5P_LINK_CREATE);
  H5Pset_layout(creation, H5D_CONTIGUOUS);
  H5Pset_alloc_time(creation, H5D_ALLOC_TIME_EARLY);
  H5Pset_fill_time(creation, H5D_FILL_TIME_NEVER);
  H5Pset_create_intermediate_group(links, 1);
  hid_t set = H5Dcreate2((hid_t)file, name, stored, space, links, creation, H5P_DEFAULT);
  int status = set < 0 ? failed("it cannot be created", message) : 0;
  if (status == 0 && values != NULL && count > 0 &&
      H5Dwrite(set, native, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0)
    status = failed("it cannot be written", message);
  if (set >= 0 && H5Dclose(set) < 0 && status == 0) status = failed("it cannot be closed", message);
  H5Pclose(links), H5Pclose(creation), H5Sclose(space), H5Tclose(stored), H5Tclose(native);
  return status;
}

static hid_t open_dataset(int64_t file, const char *name, char *message) {
  if (!plain_links((hid_t)file, name)) return refused("it is not there", message);
  hid_t set = H5Dopen2((hid_t)file, name, H5P_DEFAULT);
  return set >= 0 ? set : failed("it cannot be opened", message);
}

int chdf5_dataset_info(int64_t file, const char *name, chdf5_info *info, char *message) {
  hid_t set = open_dataset(file, name, message);
  if (set < 0) return -1;
  hid_t type = H5Dget_type(set), space = H5Dget_space(set), creation = H5Dget_create_plist(set);
  int status = type < 0 || space < 0 || creation < 0 ? failed("it cannot be described", message)
                                                     : describe(type, space, info, message);
  if (status == 0) {
    info->contiguous = H5Pget_layout(creation) == H5D_CONTIGUOUS && H5Pget_external_count(creation) == 0;
    info->stored = (int64_t)H5Dget_storage_size(set);
    haddr_t offset = info->contiguous ? H5Dget_offset(set) : HADDR_UNDEF;
    info->offset = offset == HADDR_UNDEF ? -1 : (int64_t)offset;
  }
  H5Eclear2(H5E_DEFAULT);
  if (creation >= 0) H5Pclose(creation);
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  H5Dclose(set);
  return status;
}

int chdf5_read(int64_t file, const char *name, int type, int64_t element, void *values, char *message) {
  hid_t set = open_dataset(file, name, message);
  if (set < 0) return -1;
  hid_t native = memory_type(type, element);
  int status = H5Dread(set, native, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) < 0
                   ? failed("it cannot be read", message) : 0;
  H5Tclose(native), H5Dclose(set);
  return status;
}

// MARK: Attributes

int chdf5_attribute_write(int64_t file, const char *object, const char *name, int type, int64_t element, int64_t count,
                          int scalar, const void *values, char *message) {
  if (H5Aexists_by_name((hid_t)file, object, name, H5P_DEFAULT) > 0 &&
      H5Adelete_by_name((hid_t)file, object, name, H5P_DEFAULT) < 0)
    return failed("it cannot be replaced", message);
  hsize_t extent = (hsize_t)count;
  hid_t stored = file_type(type, element), native = memory_type(type, element);
  hid_t space = scalar ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &extent, NULL);
  hid_t attribute = H5Acreate_by_name((hid_t)file, object, name, stored, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
  int status = attribute < 0 ? failed("it cannot be created", message) : 0;
  if (status == 0 && count > 0 && H5Awrite(attribute, native, values) < 0)
    status = failed("it cannot be written", message);
  if (attribute >= 0) H5Aclose(attribute);
  H5Sclose(space), H5Tclose(stored), H5Tclose(native);
  return status;
}

int chdf5_attribute_exists(int64_t file, const char *object, const char *name, char *message) {
  htri_t exists = H5Aexists_by_name((hid_t)file, object, name, H5P_DEFAULT);
  return exists < 0 ? failed("it cannot be looked up", message) : exists > 0;
}

int chdf5_attribute_info(int64_t file, const char *object, const char *name, chdf5_info *info, char *message) {
  if (H5Aexists_by_name((hid_t)file, object, name, H5P_DEFAULT) <= 0) {
    H5Eclear2(H5E_DEFAULT);
    return refused("it is not there", message);
  }
  hid_t attribute = H5Aopen_by_name((hid_t)file, object, name, H5P_DEFAULT, H5P_DEFAULT);
  if (attribute < 0) return failed("it cannot be opened", message);
  hid_t type = H5Aget_type(attribute), space = H5Aget_space(attribute);
  int status = type < 0 || space < 0 ? failed("it cannot be described", message)
                                     : describe(type, space, info, message);
  if (status == 0) info->stored = (int64_t)H5Aget_storage_size(attribute);
  if (space >= 0) H5Sclose(space);
  if (type >= 0) H5Tclose(type);
  H5Aclose(attribute);
  return status;
}

int chdf5_attribute_read(int64_t file, const char *object, const char *name, int type, int64_t element, void *values,
                         char *message) {
  hid_t attribute = H5Aopen_by_name((hid_t)file, object, name, H5P_DEFAULT, H5P_DEFAULT);
  if (attribute < 0) return failed("it cannot be opened", message);
  hid_t native = memory_type(type, element);
  int status = H5Aread(attribute, native, values) < 0 ? failed("it cannot be read", message) : 0;
  H5Tclose(native), H5Aclose(attribute);
  return status;
}

// MARK: Groups

int64_t chdf5_group_count(int64_t file, const char *group, char *message) {
  if (!plain_links((hid_t)file, group)) return refused("it is not there", message);
  H5G_info_t info;
  if (H5Gget_info_by_name((hid_t)file, group, &info, H5P_DEFAULT) < 0) return failed("it is not a group", message);
  return (int64_t)info.nlinks;
}

int64_t chdf5_group_name(int64_t file, const char *group, int64_t index, char *name, int64_t capacity, char *message) {
  ssize_t length = H5Lget_name_by_idx((hid_t)file, group, H5_INDEX_NAME, H5_ITER_INC, (hsize_t)index, name,
                                      (size_t)capacity, H5P_DEFAULT);
  return length < 0 ? failed("its names cannot be read", message) : (int64_t)length;
}
