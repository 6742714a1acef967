# What is installed besides the library and the tools, the target "uninstall", and the Debian packages:
#   tssx               the library, the tools, manual pages, completion, documentation
#   libtssx-core-dev   the static library of core/ and its headers
# Components of the same meaning: runtime, development. Debian's own files are in neither of a plain
# installation's parts (EXCLUDE_FROM_ALL), the license is not in the packages, which have "copyright".

include(CMakePackageConfigHelpers)
set(packaging ${CMAKE_CURRENT_LIST_DIR})

# --- documentation ----------------------------------------------------------------------------

file(GLOB man1_pages CONFIGURE_DEPENDS docs/man/*.1)
file(GLOB man7_pages CONFIGURE_DEPENDS docs/man/*.7)
file(GLOB doc_pages CONFIGURE_DEPENDS docs/*.md)
install(FILES ${man1_pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 COMPONENT runtime)
install(FILES ${man7_pages} DESTINATION ${CMAKE_INSTALL_MANDIR}/man7 COMPONENT runtime)
install(FILES README.md ${doc_pages} DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT runtime)
install(FILES CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME changelog COMPONENT runtime)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT license)
install(DIRECTORY docs/examples/ DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples COMPONENT runtime)
install(FILES docs/examples/postgresql.environment DESTINATION ${CMAKE_INSTALL_DATADIR}/tssx
  COMPONENT runtime)
file(GLOB completions CONFIGURE_DEPENDS tools/completion/tssx-*)
install(FILES ${completions} DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions
  COMPONENT runtime)

# --- core for others --------------------------------------------------------------------------

set(cmake_folder ${CMAKE_INSTALL_LIBDIR}/cmake/tssx)
install(EXPORT tssx-targets NAMESPACE tssx:: DESTINATION ${cmake_folder} COMPONENT development)
configure_file(${packaging}/tssx-config.cmake.in tssx-config.cmake @ONLY)
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/tssx-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tssx-config.cmake
  ${CMAKE_CURRENT_BINARY_DIR}/tssx-config-version.cmake
  DESTINATION ${cmake_folder} COMPONENT development)
# Relative, so that a tree can be moved as a whole.
file(RELATIVE_PATH pkgconfig_to_prefix "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
string(REGEX REPLACE "/$" "" pkgconfig_to_prefix "${pkgconfig_to_prefix}")
configure_file(${packaging}/tssx-core.pc.in tssx-core.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/tssx-core.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT development)

# --- uninstall --------------------------------------------------------------------------------

configure_file(${packaging}/uninstall.cmake.in uninstall.cmake @ONLY)
add_custom_target(uninstall
  COMMAND ${CMAKE_COMMAND} -P ${CMAKE_CURRENT_BINARY_DIR}/uninstall.cmake
  COMMENT "Removing what was installed" VERBATIM)

# --- Debian packages --------------------------------------------------------------------------

set(runtime_package tssx)
set(development_package libtssx-core-dev)
string(TIMESTAMP package_date "%a, %d %b %Y %H:%M:%S +0000" UTC)  # SOURCE_DATE_EPOCH counts
foreach(component IN ITEMS runtime development)
  set(package ${${component}_package})
  configure_file(${packaging}/changelog.Debian.in ${package}/changelog.Debian @ONLY)
  install(FILES ${packaging}/copyright ${CMAKE_CURRENT_BINARY_DIR}/${package}/changelog.Debian
    DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${package} COMPONENT ${component} EXCLUDE_FROM_ALL)
  if(EXISTS ${packaging}/${package}.lintian-overrides)
    install(FILES ${packaging}/${package}.lintian-overrides
      DESTINATION ${CMAKE_INSTALL_DATADIR}/lintian/overrides RENAME ${package}
      COMPONENT ${component} EXCLUDE_FROM_ALL)
  endif()
endforeach()
install(FILES CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DATADIR}/doc/${development_package}
  RENAME changelog COMPONENT development EXCLUDE_FROM_ALL)

set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL runtime development)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PACKAGING_INSTALL_PREFIX ${CMAKE_INSTALL_PREFIX})
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${packaging}/compress.cmake)
set(CPACK_PACKAGE_CONTACT "The TSSX authors <maintainers@tssx.example>")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_RUNTIME_PACKAGE_NAME ${runtime_package})
set(CPACK_DEBIAN_RUNTIME_PACKAGE_SECTION net)
set(CPACK_DEBIAN_RUNTIME_DESCRIPTION "TSSX is a library that is loaded in front of libc. Connections of unmodified
programs over the Unix sockets that are listed run over rings in shared
memory; everything else stays with the kernel's own sockets.

The tools start programs with it, show its connections and measure it.")
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_NAME ${development_package})
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEVELOPMENT_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_DEVELOPMENT_DESCRIPTION "TSSX moves connections over Unix sockets to rings in shared memory. This is
the part that knows connections and rings, without the preloading: a static
library with its headers, for programs that read or make such connections
themselves.")
include(CPack)
