#include "vhdx/edit.h"

#include "vhdx/headers.h"

namespace vhdkit::vhdx {

Async<void> set_data_write_guid(File& file, const Guid& data_write_guid) {
  CO_TRY_LET(FoundHeaders headers, co_await read_headers(file));
  if (!headers.current.log_is_empty())
    co_return fail(Errc::invalid_argument,
                   file.name() + ": the log is not empty; it must be replayed first");
  CO_TRY(check_sequence_room(file, headers));
  headers.current.file_write_guid = Guid::random();
  headers.current.data_write_guid = data_write_guid;
  co_return co_await write_headers(file, headers);
}

}  // namespace vhdkit::vhdx
