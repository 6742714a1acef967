# Included before the first install(): notes which directories an installation makes, so that
# "uninstall" can remove them again. Not run for packages, whose manager knows that by itself.
set(install_folders "${CMAKE_INSTALL_BINDIR}" "${CMAKE_INSTALL_LIBDIR}/pkgconfig"
  "${CMAKE_INSTALL_LIBDIR}/cmake/tssx" "${CMAKE_INSTALL_INCLUDEDIR}/tssx/core"
  "${CMAKE_INSTALL_MANDIR}/man1" "${CMAKE_INSTALL_MANDIR}/man7"
  "${CMAKE_INSTALL_DOCDIR}/examples" "${CMAKE_INSTALL_DATADIR}/tssx"
  "${CMAKE_INSTALL_DATADIR}/bash-completion/completions")
install(CODE "set(tssx_folders \"${install_folders}\")")
install(CODE "set(tssx_record \"${CMAKE_BINARY_DIR}/install_directories.txt\")")
install(CODE [[
  set(missing)
  if(EXISTS "${tssx_record}")
    file(STRINGS "${tssx_record}" missing)
  endif()
  foreach(folder IN LISTS tssx_folders)
    cmake_path(ABSOLUTE_PATH folder BASE_DIRECTORY "${CMAKE_INSTALL_PREFIX}" NORMALIZE)
    while(NOT EXISTS "$ENV{DESTDIR}${folder}")
      list(APPEND missing "${folder}")
      cmake_path(GET folder PARENT_PATH folder)
    endwhile()
  endforeach()
  list(REMOVE_DUPLICATES missing)
  list(JOIN missing "\n" text)
  file(WRITE "${tssx_record}" "${text}\n")
]])
