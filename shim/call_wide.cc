// Wide characters over an endpoint.
//
// A FILE of fopencookie(3) takes none. So the first wide call on a FILE of ours, if nothing decided
// its orientation before (fwide(3)), makes it one of libc's own.

#include <wchar.h>

#include "shim/descriptor_table.h"
#include "shim/real.h"
#include "shim/stdio_file.h"

using namespace tssx;

namespace {

constexpr int kEndOrError = 0x10 | 0x20;  // _IO_EOF_SEEN, _IO_ERR_SEEN of glibc

bool is_oriented(const FILE* file) noexcept {
  return file->_IO_read_base != nullptr || file->_IO_write_base != nullptr ||
         (file->_flags & kEndOrError) != 0;
}

// An ID stays as it is, since libc's own FILE can't have one for a number.
FILE* wide(FILE* file) noexcept {
  real::ensure();
  if (is_endpoint_file(file) && !is_oriented(file) && file->_fileno >= 0) become_libc_file(file);
  return file;
}

}  // namespace

TSSX_INTERPOSED int fwide(FILE* file, int mode) noexcept {
  real::ensure();
  if (!is_endpoint_file(file) || is_oriented(file)) return real::fwide(file, mode);
  if (mode == 0) return 0;
  if (mode > 0) return real::fwide(wide(file), mode);
  file->_IO_read_base = file->_IO_read_ptr = file->_IO_read_end = file->_IO_buf_base;
  return mode;
}

#define TSSX_WIDE(result, name, parameters, arguments) \
  TSSX_INTERPOSED result name parameters { return wide(file), real::name arguments; }
TSSX_WIDE(wint_t, fgetwc, (FILE * file), (file))
TSSX_WIDE(wint_t, getwc, (FILE * file), (file))
TSSX_WIDE(wint_t, fgetwc_unlocked, (FILE * file), (file))
TSSX_WIDE(wint_t, getwc_unlocked, (FILE * file), (file))
TSSX_WIDE(wint_t, fputwc, (wchar_t character, FILE* file), (character, file))
TSSX_WIDE(wint_t, putwc, (wchar_t character, FILE* file), (character, file))
TSSX_WIDE(wint_t, fputwc_unlocked, (wchar_t character, FILE* file), (character, file))
TSSX_WIDE(wint_t, putwc_unlocked, (wchar_t character, FILE* file), (character, file))
TSSX_WIDE(wint_t, ungetwc, (wint_t character, FILE* file), (character, file))
TSSX_WIDE(wchar_t*, fgetws, (wchar_t * text, int size, FILE* file), (text, size, file))
TSSX_WIDE(wchar_t*, fgetws_unlocked, (wchar_t * text, int size, FILE* file), (text, size, file))
TSSX_WIDE(wchar_t*, __fgetws_chk, (wchar_t * text, size_t room, int size, FILE* file),
          (text, room, size, file))
TSSX_WIDE(wchar_t*, __fgetws_unlocked_chk, (wchar_t * text, size_t room, int size, FILE* file),
          (text, room, size, file))
TSSX_WIDE(int, fputws, (const wchar_t* text, FILE* file), (text, file))
TSSX_WIDE(int, fputws_unlocked, (const wchar_t* text, FILE* file), (text, file))
TSSX_WIDE(int, vfwprintf, (FILE * file, const wchar_t* format, va_list arguments),
          (file, format, arguments))
TSSX_WIDE(int, __vfwprintf_chk, (FILE * file, int flag, const wchar_t* format, va_list arguments),
          (file, flag, format, arguments))
TSSX_WIDE(int, __isoc99_vfwscanf, (FILE * file, const wchar_t* format, va_list arguments),
          (file, format, arguments))
#undef TSSX_WIDE

// What <wchar.h> calls vfwscanf and fwscanf are the C99 ones above and below; these are the names
// that older programs have.
TSSX_INTERPOSED int tssx_vfwscanf(FILE*, const wchar_t*, va_list) __asm__("vfwscanf");
int tssx_vfwscanf(FILE* file, const wchar_t* format, va_list arguments) {
  return wide(file), real::vfwscanf(file, format, arguments);
}

#define TSSX_WIDE_LIST(list, arguments_before, format) \
  va_list arguments;                                   \
  va_start(arguments, format);                         \
  const int result = list arguments_before;            \
  va_end(arguments);                                   \
  return result

TSSX_INTERPOSED int fwprintf(FILE* file, const wchar_t* format, ...) {
  TSSX_WIDE_LIST(::vfwprintf, (file, format, arguments), format);
}
TSSX_INTERPOSED int __fwprintf_chk(FILE* file, int flag, const wchar_t* format, ...) {
  TSSX_WIDE_LIST(::__vfwprintf_chk, (file, flag, format, arguments), format);
}
TSSX_INTERPOSED int __isoc99_fwscanf(FILE* file, const wchar_t* format, ...) {
  TSSX_WIDE_LIST(::__isoc99_vfwscanf, (file, format, arguments), format);
}
TSSX_INTERPOSED int tssx_fwscanf(FILE*, const wchar_t*, ...) __asm__("fwscanf");
int tssx_fwscanf(FILE* file, const wchar_t* format, ...) {
  TSSX_WIDE_LIST(tssx_vfwscanf, (file, format, arguments), format);
}
#undef TSSX_WIDE_LIST
