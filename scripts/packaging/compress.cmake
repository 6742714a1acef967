# Before a package is made from its tree: Debian has manual pages and changelogs compressed, without the
# time of it, so that the same input gives the same package.
file(GLOB_RECURSE files "${CPACK_TEMPORARY_DIRECTORY}/*")
list(FILTER files INCLUDE REGEX "/share/(man/man[0-9]/[^/]*\\.[0-9]|doc/[^/]*/changelog(\\.Debian)?)$")
if(NOT files)
  message(FATAL_ERROR "no manual pages in ${CPACK_TEMPORARY_DIRECTORY}")
endif()
foreach(file IN LISTS files)
  execute_process(COMMAND gzip -9n "${file}" COMMAND_ERROR_IS_FATAL ANY)
endforeach()
